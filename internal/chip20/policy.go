package chip20

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/google/go-tpm/tpm2"

	"maclef/blob"
	"maclef/internal/chip"
	"maclef/internal/policy"
	"maclef/internal/pubarea"
	"maclef/internal/tpm20"
)

// policyAuth runs the key's policy for one command. It returns the session that authorizes the
// command, and one that encrypts if the first cannot. If the policy is not met, the error is
// chip.ErrPolicy, and the secret was not tried.
func (k *loadedKey) policyAuth(command tpm2.TPMCC, key chip.AuthData, enc tpm20.Encrypt) (auth tpm2.Session, extra []tpm2.Session, err error) {
	if k.rules == nil {
		if k.rules, err = parsePolicy(k.file); err != nil {
			return nil, nil, err
		}
	}
	if key == nil { // the file says that the key has no secret
		key = chip.AuthData{}
	}
	auth, extra, err = k.chip.runPolicy(k.rules, k.parent, command, key, enc)
	return auth, extra, policyError(err)
}

// runPolicy runs a policy for one command. Its sessions are salted to a key like salt; see
// withSaltKey.
func (c *Chip) runPolicy(rules *policy.Policy, salt parentID, command tpm2.TPMCC, secret chip.AuthData, enc tpm20.Encrypt) (auth tpm2.Session, extra []tpm2.Session, err error) {
	s, err := c.policySession(rules.Alg(), salt)
	if err != nil {
		return nil, nil, err
	}
	proved, err := rules.Run(c.conn, s, policy.Use{
		Command: command, Secret: secret,
		Authorize: func(secret []byte) (tpm2.Session, error) {
			shared, err := c.sharedSession(salt)
			if err != nil {
				return nil, err
			}
			return shared.For(secret, 0), nil
		},
	})
	if err != nil {
		return nil, nil, err
	}
	if proved != nil || enc == 0 {
		return s.For(proved, enc), nil, nil
	}
	shared, err := c.sharedSession(salt)
	if err != nil {
		return nil, nil, err
	}
	return s.For(nil, 0), []tpm2.Session{shared.For(nil, enc)}, nil
}

// explainPolicy explains the error of a command that a policy session authorized.
func (k *loadedKey) explainPolicy(err error) error {
	if err == nil || k.rules == nil {
		return err
	}
	return policyError(k.rules.Explain(err))
}

// policyError converts a policy.Unmet to a chip.ErrPolicy. The result does not wrap the TPM's
// code, because a retry would not help.
func policyError(err error) error {
	var unmet *policy.Unmet
	var wrong *policy.WrongSecret
	var code *tpm20.Error
	switch {
	case errors.As(err, &wrong) && errors.As(err, &code):
		return chip.OfKind(chip.ErrWrongPolicySecret, fmt.Sprintf("%s; the key's policy asks for the secret of %s, not for the key's own", code.Name(), wrong.Owner), err)
	case !errors.As(err, &unmet):
		return err
	}
	kind := chip.ErrPolicy
	switch {
	case unmet.Another:
		kind = chip.ErrNextPolicy
	case unmet.Unknown:
		kind = chip.ErrUnknownPolicy
	case unmet.Secret:
		kind = chip.ErrPolicySecret
	}
	return chip.OfKind(kind, unmet.Why, nil)
}

// policySession returns the session that runs all policies with this hash algorithm, one after
// the other.
func (c *Chip) policySession(alg tpm2.TPMIAlgHash, parent parentID) (*tpm20.Session, error) {
	if s := c.policies[alg]; s.Alive() {
		return s, nil
	}
	if c.policies == nil {
		c.policies = map[tpm2.TPMIAlgHash]*tpm20.Session{}
	}
	err := c.withSaltKey(parent, func(salt *tpm20.Object) (err error) {
		c.policies[alg], err = c.conn.StartPolicy(alg, salt)
		return err
	})
	return c.policies[alg], err
}

// parsePolicy parses the policy of a key file.
func parsePolicy(t *blob.TSS2) (*policy.Policy, error) {
	area := pubarea.TPMT(t.Public)
	if area == nil {
		return nil, damagedPolicy(errors.New("its public area cannot be read"))
	}
	rules, err := policy.New(area.NameAlg, area.AuthPolicy.Buffer, t.Policy, t.AuthPolicy)
	if err != nil {
		return nil, damagedPolicy(err)
	}
	return rules, nil
}

// damagedPolicy returns a KindError, so the class of the error is ClassRefused: nothing was sent.
func damagedPolicy(err error) error {
	return chip.OfKind(blob.ErrDamaged, fmt.Sprintf("%v; get a good copy of the file", err), nil)
}

// needsPolicy reports whether the policy authorizes a key, not its secret alone. It is called for
// each operation, so it does not parse the whole public area.
//
// TPM 2.0 Library Part 2, sections 8.3 (TPMA_OBJECT) and 12.2.4 (TPMT_PUBLIC)
func needsPolicy(t *blob.TSS2) bool {
	const at, userWithAuth = 2 + 2 + 2, 1 << 6 // size, type, nameAlg
	return t.ByPolicy || len(t.Public) >= at+4 && binary.BigEndian.Uint32(t.Public[at:])&userWithAuth == 0
}

// checkPolicy returns an error if a policy can never be met, because the file is damaged or does
// not belong to the key. It sends nothing.
func checkPolicy(t *blob.TSS2) error {
	if !needsPolicy(t) {
		return nil
	}
	rules, err := parsePolicy(t)
	if err != nil {
		return err
	}
	return policyError(rules.Check())
}

// newPolicy returns the commands of a new object's policy and their digest. With secret, the
// policy requires the object's secret, too.
func (c *Chip) newPolicy(steps []policy.Step, secret bool) (commands []blob.PolicyCommand, digest []byte, err error) {
	if steps == nil {
		return nil, nil, nil
	}
	if secret && !policy.AsksAuthValue(steps) {
		steps = append(slices.Clone(steps), policy.Step{Command: policy.AuthValue()})
	}
	if steps, err = c.resolve(tpm2.TPMAlgSHA256, steps); err != nil {
		return nil, nil, err
	}
	commands = policy.Commands(steps)
	digest, err = policy.Digest(tpm2.TPMAlgSHA256, commands)
	return commands, digest, err
}

// checkNewPolicy returns an error if nobody could use what is made, because its policy names a
// command that does nothing with it. Other programs may have other commands for a key.
func checkNewPolicy(spec *chip.Spec) error {
	kind, uses := "RSA key", []tpm2.TPMCC{tpm2.TPMCCSign, tpm2.TPMCCRSADecrypt}
	made := spec.Type
	if spec.Wrap != nil {
		made = typeOf(spec.Wrap)
	}
	if _, isEC := curves[made]; isEC {
		kind, uses = "EC key", []tpm2.TPMCC{tpm2.TPMCCSign, tpm2.TPMCCECDHZGen}
	}
	if spec.Seal != nil {
		kind, uses = "sealed data", []tpm2.TPMCC{tpm2.TPMCCUnseal}
	}
	own := []tpm2.TPMCC{tpm2.TPMCCSign, tpm2.TPMCCRSADecrypt, tpm2.TPMCCECDHZGen, tpm2.TPMCCUnseal}
	err := policy.CheckCommands(spec.Policy, func(code tpm2.TPMCC) bool {
		return slices.Contains(uses, code) || spec.Seal == nil && !slices.Contains(own, code)
	})
	if err == nil {
		return nil
	}
	return fmt.Errorf("%w: nobody could use the %s with the policy %s: %w", chip.ErrNotSupported, kind, policy.StepsText(spec.Policy), err)
}

// WithPolicy returns the key with a policy that replaces the one in its file. It reads the PCRs of
// the policy, and sends nothing else. If the digest is not that of the key, the error is
// chip.ErrOtherPolicy.
func (c *Chip) WithPolicy(t *blob.TSS2, steps []policy.Step) (*blob.TSS2, error) {
	area := pubarea.TPMT(t.Public)
	if area == nil {
		return nil, damagedPolicy(errors.New("its public area cannot be read"))
	}
	steps, err := c.resolve(area.NameAlg, steps)
	if err == nil {
		err = policy.CheckSteps(area.NameAlg, area.AuthPolicy.Buffer, steps)
	}
	var unmet *policy.Unmet
	if errors.As(err, &unmet) {
		return nil, chip.OfKind(chip.ErrOtherPolicy, unmet.Why, nil)
	}
	if err != nil {
		return nil, err
	}
	return policy.WithSteps(t, steps), nil
}

// resolve is policy.Resolve with the PCRs of the TPM.
func (c *Chip) resolve(alg tpm2.TPMIAlgHash, steps []policy.Step) ([]policy.Step, error) {
	for _, s := range steps {
		if s.PCRs == nil {
			continue
		}
		if err := c.checkBanks(s.PCRs); err != nil {
			return nil, c.explain(err, nil)
		}
	}
	resolved, err := policy.Resolve(alg, steps, c.conn.PCRRead)
	return resolved, c.explain(err, nil)
}

// checkBanks returns an error if the TPM does not have a bank or a PCR.
func (c *Chip) checkBanks(pcrs []policy.PCRSelection) error {
	banks, err := policy.Banks(c.conn)
	if err != nil {
		return err
	}
	var names []string
	active := map[tpm2.TPMIAlgHash]uint32{}
	for _, bank := range banks {
		names = append(names, policy.BankName(bank.Bank))
		active[bank.Bank] = bank.PCRs
	}
	for _, s := range pcrs {
		have := active[s.Bank]
		if have == 0 {
			return fmt.Errorf("%w: policy %s: this TPM has no active PCRs of bank %s; it has %s",
				chip.ErrNotSupported, policy.PCRText(pcrs), policy.BankName(s.Bank), strings.Join(names, ", "))
		}
		if missing := (policy.PCRSelection{Bank: s.Bank, PCRs: s.PCRs &^ have}); missing.PCRs != 0 {
			return fmt.Errorf("%w: policy %s: this TPM has no PCR %s in bank %s",
				chip.ErrNotSupported, policy.PCRText(pcrs), missing.Numbers(), policy.BankName(s.Bank))
		}
	}
	return nil
}
