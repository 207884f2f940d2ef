package policy

import (
	"cmp"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/google/go-tpm/tpm2"
	"golang.org/x/crypto/cryptobyte"

	"maclef/blob"
)

// A Line is one line of a description: the name of a property, and its value.
type Line struct{ Name, Value string }

// UnknownSteps is the value of the line "policy" if only the digest is known.
const UnknownSteps = "unknown: only the digest of its steps is stored"

// Describe describes the policy of a key file: its digest, whether the commands in the file give
// that digest, and what each command requires.
func Describe(t *blob.TSS2) []Line {
	alg, want := policyFields(t.Public)
	if len(want) == 0 && len(t.Policy) == 0 && len(t.AuthPolicy) == 0 {
		return []Line{{"policy", "none"}}
	}
	lines := []Line{{"policy digest", describeDigest(alg, want, t.Policy)}}
	switch {
	case len(t.Policy) == 0 && t.ByPolicy:
		lines = append(lines, Line{"policy", "no steps: every policy session meets it"})
	case len(t.Policy) == 0:
		lines = append(lines, Line{"policy", UnknownSteps})
	}
	size := len(want)
	if hash, err := hashOf(alg); err == nil {
		size = hash.Size()
	}
	lines = append(lines, describeAll("policy", size, t.Policy)...)
	for i, signed := range t.AuthPolicy {
		what := fmt.Sprintf("signed policy %d", i+1)
		if signed.Name != "" {
			lines = append(lines, Line{what, fmt.Sprintf("%q", signed.Name)})
		}
		lines = append(lines, describeAll(what, size, signed.Policy)...)
	}
	return lines
}

// policyFields returns nameAlg and authPolicy of a TPM2B_PUBLIC, which are at the same place for
// all types of objects. TPM 2.0 Library Part 2, section 12.2.4 (TPMT_PUBLIC).
func policyFields(public []byte) (alg tpm2.TPMIAlgHash, authPolicy []byte) {
	s := cryptobyte.String(public)
	var digest cryptobyte.String
	if s.Skip(2+2) && s.ReadUint16((*uint16)(&alg)) && s.Skip(4) { // size, type; objectAttributes
		s.ReadUint16LengthPrefixed(&digest)
	}
	return alg, digest
}

// describeDigest returns a text with the digest, and whether the commands in the file give it.
func describeDigest(alg tpm2.TPMIAlgHash, want []byte, commands []blob.PolicyCommand) string {
	text := fmt.Sprintf("%s:%x", BankName(alg), want)
	switch {
	case len(want) == 0:
		return "none: the key has no policy, even if the file has one"
	case len(commands) == 0:
		return text
	}
	got, err := Digest(alg, commands)
	switch {
	case err != nil:
		return text + fmt.Sprintf(", not checked: %v", err)
	case string(got) != string(want):
		return text + ", which is NOT that of the commands below: the policy cannot be met"
	}
	return text
}

func describeAll(what string, size int, commands []blob.PolicyCommand) []Line {
	var lines []Line
	for i, c := range commands {
		step := what
		if len(commands) > 1 {
			step = fmt.Sprintf("%s, step %d", what, i+1)
		}
		lines = append(lines, Line{step, describe(size, c)})
	}
	return lines
}

// describe returns what a command requires, such as "PolicyPCR: sha256 PCRs 7, 11". size is the
// digest size of the policy's hash algorithm. For an unknown command it returns the code.
func describe(size int, c blob.PolicyCommand) string {
	name := fileName(tpm2.TPMCC(c.Code))
	if !predictable(tpm2.TPMCC(c.Code)) {
		return fmt.Sprintf("%s, with %d bytes", name, len(c.Policy))
	}
	a, err := parse(c, size)
	if err != nil {
		return fmt.Sprintf("%s: %d bytes that are invalid (%v)", name, len(c.Policy), err)
	}
	return name + ": " + a.describe()
}

// fileName returns the name of a policy command for descriptions.
func fileName(code tpm2.TPMCC) string {
	if name := names[code]; strings.HasPrefix(name, "Policy") {
		return name
	}
	return fmt.Sprintf("command 0x%08x", uint32(code))
}

// plainText describes commands whose parameters are not shown.
var plainText = map[tpm2.TPMCC]string{
	tpm2.TPMCCPolicyAuthValue:         "the key's secret",
	tpm2.TPMCCPolicyPassword:          "the key's secret, sent as a password",
	tpm2.TPMCCPolicyCpHash:            "only for one command with certain parameters",
	tpm2.TPMCCPolicyNameHash:          "only with certain objects",
	tpm2.TPMCCPolicyTemplate:          "only to create objects by one template",
	tpm2.TPMCCPolicyDuplicationSelect: "only to duplicate the key to one new parent",
	tpm2.TPMCCPolicyPhysicalPresence:  "somebody at the machine (physical presence)",
	tpm2.TPMCCPolicyNvWritten:         "whether an NV index has been written",
}

func (a *plainAssertion) describe() string {
	switch a.code {
	case tpm2.TPMCCPolicyCommandCode:
		return "only for " + describeUse(tpm2.TPMCC(binary.BigEndian.Uint32(a.body)))
	case tpm2.TPMCCPolicyLocality:
		return describeLocality(a.body[0])
	}
	return plainText[a.code]
}

func describeUse(code tpm2.TPMCC) string {
	if names[code] != "" {
		return commandName(code)
	}
	return fmt.Sprintf("command 0x%08x", uint32(code))
}

// describeLocality describes a TPMA_LOCALITY: a bit mask below 32, else a number. TPM 2.0 Library
// Part 2, section 8.5 (TPMA_LOCALITY).
func describeLocality(b byte) string {
	if b >= 32 {
		return fmt.Sprintf("locality %d", b)
	}
	var list []string
	for i := range 5 {
		if b>>i&1 != 0 {
			list = append(list, fmt.Sprint(i))
		}
	}
	if list == nil {
		return "no locality at all"
	}
	return "locality " + strings.Join(list, " or ")
}

func (a *orAssertion) describe() string {
	return fmt.Sprintf("what came before is one of %d policies", len(a.digests))
}

func (a *timerAssertion) describe() string {
	field := cmp.Or(timeFields[a.offset][0], fmt.Sprintf("bytes from %d on", a.offset))
	return "clock or restart counters of the TPM: " + field + " " + a.text("has all bits of", "has no bits of")
}

func (a *pcrAssertion) describe() string {
	var banks []string
	for _, s := range a.selection {
		banks = append(banks, s.describe())
	}
	if banks == nil {
		return "no PCRs at all"
	}
	return strings.Join(banks, "; ")
}

func (s PCRSelection) describe() string {
	list := strings.Trim(strings.ReplaceAll(fmt.Sprint(s.indices()), " ", ", "), "[]")
	switch len(s.indices()) {
	case 0:
		return BankName(s.Bank) + ", no PCR"
	case 1:
		return BankName(s.Bank) + " PCR " + list
	}
	return BankName(s.Bank) + " PCRs " + list
}

func (a *secretAssertion) describe() string { return "the secret of " + a.owner() }

func (a *authorizeAssertion) describe() string {
	return "a policy signed by key " + describeName(a.name)
}

// describeName returns a name as text, such as "sha256:…".
func describeName(name []byte) string {
	return BankName(tpm2.TPMIAlgHash(binary.BigEndian.Uint16(name))) + ":" + hex.EncodeToString(name[2:])
}

// DescribeHierarchy returns the name of a permanent entity. TPM 2.0 Library Part 2, section 7.4
// (TPM_RH).
func DescribeHierarchy(handle tpm2.TPMHandle) string {
	switch handle {
	case tpm2.TPMRHOwner:
		return "the owner hierarchy"
	case tpm2.TPMRHNull:
		return "the null hierarchy"
	case tpm2.TPMRHLockout:
		return "the lockout"
	case tpm2.TPMRHEndorsement:
		return "the endorsement hierarchy"
	case tpm2.TPMRHPlatform:
		return "the platform hierarchy"
	}
	return fmt.Sprintf("the entity 0x%08x", uint32(handle))
}
