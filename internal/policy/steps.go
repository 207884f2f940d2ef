package policy

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/google/go-tpm/tpm2"

	"maclef/blob"
	"maclef/internal/pubarea"
)

// A Step is a step of a policy as users write it.
type Step struct {
	// PCRs makes it a TPM2_PolicyPCR for the values that these PCRs have when [Resolve] reads
	// them; nil for another command.
	PCRs []PCRSelection
	// Command is the command in the form of key files.
	Command blob.PolicyCommand
}

// ParseSteps parses steps as users write them, joined by "+": PCRs such as "pcr:sha256:7",
// "pcr:0-7,11" or "pcr:sha256:7,11+sha1:4", "auth" or "password" for the object's secret, and
// "command:sign" or "command:0x15d" for one command.
func ParseSteps(text string) ([]Step, error) {
	parts, err := splitSteps(text)
	if err != nil {
		return nil, err
	}
	var steps []Step
	for _, part := range parts {
		var s Step
		kind, value, _ := strings.Cut(part, ":")
		switch kind {
		case "pcr":
			s.PCRs, err = parsePCRs(value)
		case "command":
			s.Command, err = parseCommandCode(value)
		default:
			s.Command = AuthValue() // the digest of TPM2_PolicyPassword is the same
		}
		if err != nil {
			return nil, err
		}
		steps = append(steps, s)
	}
	return steps, nil
}

// splitSteps splits a text at "+", except between PCRs.
func splitSteps(text string) (parts []string, err error) {
	for part := range strings.SplitSeq(text, "+") {
		part = strings.TrimSpace(part)
		kind, _, valued := strings.Cut(part, ":")
		last := len(parts) - 1
		switch {
		case valued && (kind == "pcr" || kind == "command"), part == "auth", part == "authvalue", part == "password":
			parts = append(parts, part)
		case last >= 0 && strings.HasPrefix(parts[last], "pcr:") && isPCRs(part):
			parts[last] += "," + part
		default:
			return nil, fmt.Errorf("%q is not a step of a policy", firstWord(part))
		}
	}
	if len(parts) > maxCommands {
		return nil, fmt.Errorf("%d steps, more than the %d that are run", len(parts), maxCommands)
	}
	return parts, nil
}

// firstWord returns the first word of a text that cannot be read, for messages. What follows it may be
// a secret, as in password:SECRET.
func firstWord(text string) string {
	end := strings.IndexFunc(text, func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsDigit(r) && r != '-' && r != '_' })
	if end < 0 {
		return text
	}
	_, size := utf8.DecodeRuneInString(text[end:])
	return text[:end+size] + "…"
}

// isPCRs reports whether a part continues a list of PCRs, perhaps with a mistake in it.
func isPCRs(part string) bool {
	_, _, named := strings.Cut(part, ":")
	return named || part == "" || strings.ContainsAny(part[:1], "-0123456789")
}

// usable are the commands that a policy may name, for an object that a program uses.
var usable = []tpm2.TPMCC{
	tpm2.TPMCCSign, tpm2.TPMCCRSADecrypt, tpm2.TPMCCECDHZGen, tpm2.TPMCCUnseal,
	tpm2.TPMCCDuplicate, tpm2.TPMCCActivateCredential, tpm2.TPMCCCertify,
}

// parseCommandCode parses a command's number, or its name in any spelling: "rsadecrypt",
// "TPM2_CC_RSA_Decrypt".
func parseCommandCode(text string) (blob.PolicyCommand, error) {
	if n, err := strconv.ParseUint(text, 0, 32); err == nil {
		return commandCode(tpm2.TPMCC(n)), nil
	}
	word := strings.TrimPrefix(strings.TrimPrefix(plainWord(text), "tpm2"), "cc")
	var words []string
	for _, code := range usable {
		if commandWord(code) == word {
			return commandCode(code), nil
		}
		words = append(words, commandWord(code))
	}
	return blob.PolicyCommand{}, fmt.Errorf("%q is not a command; it takes a number, %s", firstWord(text), strings.Join(words, ", "))
}

func plainWord(name string) string { return strings.ToLower(strings.ReplaceAll(name, "_", "")) }

// commandWord returns a command as users write it.
func commandWord(code tpm2.TPMCC) string {
	if slices.Contains(usable, code) {
		return plainWord(names[code])
	}
	return fmt.Sprintf("%#x", uint32(code))
}

// commandCode returns TPM2_PolicyCommandCode for a key file.
func commandCode(code tpm2.TPMCC) blob.PolicyCommand {
	return blob.PolicyCommand{Code: uint32(tpm2.TPMCCPolicyCommandCode), Policy: binary.BigEndian.AppendUint32(nil, uint32(code))}
}

// StepsText returns steps in the form that ParseSteps takes.
func StepsText(steps []Step) string {
	var parts []string
	for _, s := range steps {
		switch {
		case s.PCRs != nil:
			parts = append(parts, PCRText(s.PCRs))
		case isAuthValue(s.Command):
			parts = append(parts, "auth")
		default:
			parts = append(parts, "command:"+commandWord(tpm2.TPMCC(binary.BigEndian.Uint32(s.Command.Policy))))
		}
	}
	return strings.Join(parts, "+")
}

func isAuthValue(c blob.PolicyCommand) bool {
	return tpm2.TPMCC(c.Code) == tpm2.TPMCCPolicyAuthValue || tpm2.TPMCC(c.Code) == tpm2.TPMCCPolicyPassword
}

// AsksAuthValue reports whether a step asks for the object's secret.
func AsksAuthValue(steps []Step) bool {
	return slices.ContainsFunc(steps, func(s Step) bool { return isAuthValue(s.Command) })
}

// CheckCommands returns an error if nothing can be done with an object that has these steps: they
// name a command for which can is false, or two commands. TPM 2.0 Library Part 3, section 23.11
// (TPM2_PolicyCommandCode).
func CheckCommands(steps []Step, can func(tpm2.TPMCC) bool) error {
	all := Commands(steps)
	for _, c := range all {
		if tpm2.TPMCC(c.Code) != tpm2.TPMCCPolicyCommandCode {
			continue
		}
		switch code := tpm2.TPMCC(binary.BigEndian.Uint32(c.Policy)); {
		case !can(code):
			return fmt.Errorf("it allows %s alone, which does nothing with it", commandName(code))
		case !Allows(all, code):
			return errors.New("it allows one command alone, and then another one alone")
		}
	}
	return nil
}

// Resolve returns the steps with the commands for the present values of the PCRs. alg is the
// policy's hash algorithm. read returns values of PCRs, as (*tpm20.Conn).PCRRead does.
func Resolve(alg tpm2.TPMIAlgHash, steps []Step, read func(bank tpm2.TPMIAlgHash, pcrs []int) (map[int][]byte, error)) ([]Step, error) {
	resolved := slices.Clone(steps)
	for i, s := range steps {
		if s.PCRs == nil {
			continue
		}
		var err error
		if resolved[i].Command, err = PCRs(alg, s.PCRs, read); err != nil {
			return nil, err
		}
	}
	return resolved, nil
}

// Commands returns the commands of steps that Resolve has returned.
func Commands(steps []Step) []blob.PolicyCommand {
	var commands []blob.PolicyCommand
	for _, s := range steps {
		commands = append(commands, s.Command)
	}
	return commands
}

// CheckSteps returns an [Unmet] if steps that Resolve has returned do not give authPolicy. It
// sends nothing.
func CheckSteps(alg tpm2.TPMIAlgHash, authPolicy []byte, steps []Step) error {
	got, err := Digest(alg, Commands(steps))
	if err != nil || bytes.Equal(got, authPolicy) {
		return err
	}
	text := StepsText(steps)
	if len(authPolicy) == 0 {
		return unmet(nil, "it was made without one, and %s was given", text)
	}
	if found, ok := similar(alg, authPolicy, steps); ok {
		return unmet(nil, "that is %s, not %s", cmp.Or(StepsText(found), "one of no steps"), text)
	}
	why := "it was made with other steps, or in another order"
	if slices.ContainsFunc(steps, func(s Step) bool { return s.PCRs != nil }) {
		why = "PCRs have changed since it was made, or it was made with other PCRs or steps, or in another order"
	}
	return unmet(nil, "%s gives the digest %s now, and it has %s: %s", text, shortName(got), shortName(authPolicy), why)
}

// similar returns steps with the digest want that a user is likely to mean: in another order,
// without some of them, or with the object's secret.
func similar(alg tpm2.TPMIAlgHash, want []byte, steps []Step) (found []Step, ok bool) {
	const most = 4 // the number of orders is a factorial
	if len(steps) > most {
		return nil, false
	}
	if !AsksAuthValue(steps) {
		steps = append(slices.Clone(steps), Step{Command: AuthValue()})
	}
	return arrange(alg, want, nil, steps)
}

// arrange returns done, followed by any of rest in any order, if that has the digest want.
func arrange(alg tpm2.TPMIAlgHash, want []byte, done, rest []Step) (found []Step, ok bool) {
	if got, err := Digest(alg, Commands(done)); err == nil && bytes.Equal(got, want) {
		return done, true
	}
	for i, next := range rest {
		others := slices.Delete(slices.Clone(rest), i, i+1)
		if found, ok := arrange(alg, want, append(slices.Clone(done), next), others); ok {
			return found, true
		}
	}
	return nil, false
}

// Recognise returns the key with the steps of its policy, if only the digest is stored, and it is
// that of no steps, of the key's secret, of one command or the secret of a hierarchy, or of two of
// these. Otherwise it returns the key as it is.
func Recognise(t *blob.TSS2) *blob.TSS2 {
	area := pubarea.TPMT(t.Public)
	if area == nil || len(t.Policy) > 0 || len(area.AuthPolicy.Buffer) == 0 || area.ObjectAttributes.UserWithAuth {
		return t
	}
	var usual []blob.PolicyCommand
	for _, code := range usable {
		usual = append(usual, commandCode(code))
	}
	for _, hierarchy := range []tpm2.TPMHandle{tpm2.TPMRHOwner, tpm2.TPMRHEndorsement, tpm2.TPMRHPlatform} {
		usual = append(usual, HierarchySecret(hierarchy))
	}
	for _, command := range usual {
		if found, ok := similar(area.NameAlg, area.AuthPolicy.Buffer, []Step{{Command: command}}); ok {
			return WithSteps(t, found)
		}
	}
	return t
}

// WithSteps returns a copy of a key that is used by these steps, which Resolve has returned,
// instead of the policy in its file, and instead of its secret alone.
func WithSteps(t *blob.TSS2, steps []Step) *blob.TSS2 {
	by := *t
	by.Policy, by.AuthPolicy, by.ByPolicy = Commands(steps), nil, true
	if AsksAuthValue(steps) {
		by.EmptyAuth = false // such a policy is of no use to a key without a secret
	}
	return &by
}
