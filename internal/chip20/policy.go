package chip20

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"

	"github.com/google/go-tpm/tpm2"

	"maclef/blob"
	"maclef/internal/chip"
	"maclef/internal/policy"
	"maclef/internal/tpm20"
)

// policyAuth runs the key's policy, for one command, and returns the session that
// authorizes it, and what encrypts where that cannot. It is run anew for each. An error
// is chip.ErrPolicy where the policy does not hold; then the secret was not tried.
func (k *loadedKey) policyAuth(command tpm2.TPMCC, key chip.AuthData, enc tpm20.Encrypt) (auth tpm2.Session, extra []tpm2.Session, err error) {
	if k.rules == nil {
		if k.rules, err = newRules(k.file.TSS2); err != nil {
			return nil, nil, err
		}
	}
	s, err := k.chip.policySession(k.rules.Hash(), k.parent)
	if err != nil {
		return nil, nil, err
	}
	if key == nil { // the file says that it has none
		key = chip.AuthData{}
	}
	proved, err := k.rules.Run(k.chip.conn, s, tpm20.PolicyUse{
		Command: command, Secret: key,
		HMAC: func() (*tpm20.Session, error) { return k.chip.sharedSession(k.parent) },
	})
	if err != nil {
		return nil, nil, inPolicyWords(err)
	}
	if proved != nil || enc == 0 {
		return s.For(proved, enc), nil, nil
	}
	shared, err := k.chip.sharedSession(k.parent)
	if err != nil {
		return nil, nil, err
	}
	return s.For(nil, 0), []tpm2.Session{shared.For(nil, enc)}, nil
}

// explainPolicy puts a refusal of the command in words that the policy was run for.
func (k *loadedKey) explainPolicy(err error) error {
	if err == nil || k.rules == nil {
		return err
	}
	return inPolicyWords(k.rules.Explain(err))
}

// inPolicyWords makes a policy that is not met an chip.ErrPolicy. It leaves out the TPM's
// code: nothing can be repaired.
func inPolicyWords(err error) error {
	var unmet *tpm20.Unmet
	if errors.As(err, &unmet) {
		return chip.OfKind(chip.ErrPolicy, unmet.Why, nil)
	}
	return err
}

// policySession returns the session in which the policies of all keys with names by a
// hash algorithm are run, one after the other.
func (c *Chip) policySession(alg tpm2.TPMIAlgHash, parent parentID) (*tpm20.Session, error) {
	if s := c.policies[alg]; s.Alive() {
		return s, nil
	}
	if c.policies == nil {
		c.policies = map[tpm2.TPMIAlgHash]*tpm20.Session{}
	}
	err := c.salted(parent, func(salt *tpm20.Object) (err error) {
		c.policies[alg], err = c.conn.StartPolicyBy(alg, salt)
		return err
	})
	return c.policies[alg], err
}

// newRules reads the policy of a key file.
func newRules(t *blob.TSS2) (*tpm20.Policy, error) {
	area := t.Area()
	if area == nil {
		return nil, damagedPolicy(errors.New("its public area cannot be read"))
	}
	var signed []tpm20.SignedPolicy
	for _, p := range t.AuthPolicy {
		signed = append(signed, tpm20.SignedPolicy{Name: p.Name, Commands: commandsOf(p.Policy)})
	}
	rules, err := tpm20.NewPolicy(area.NameAlg, area.AuthPolicy.Buffer, commandsOf(t.Policy), signed)
	if err != nil {
		return nil, damagedPolicy(err)
	}
	return rules, nil
}

// damagedPolicy is a refusal: the TPM was not asked, and has nothing to repair.
func damagedPolicy(err error) error {
	return chip.OfKind(blob.ErrDamaged, fmt.Sprintf("%v; get a good copy of the file", err), nil)
}

func commandsOf(list []blob.PolicyCommand) []tpm20.PolicyCommand {
	var commands []tpm20.PolicyCommand
	for _, c := range list {
		commands = append(commands, tpm20.PolicyCommand{Code: c.Code, Body: c.Policy})
	}
	return commands
}

// needsPolicy reports whether a key can be used by its policy only. One that has a
// policy and can be used by its secret as well, is. It is asked for each operation, and
// so reads no more of the public area than it must.
//
// TPM 2.0 Library Part 2, sections 8.3.3.5 (userWithAuth) and 12.2.4 (TPMT_PUBLIC)
func needsPolicy(t *blob.TSS2) bool {
	const at, userWithAuth = 2 + 2 + 2, 1 << 6 // size, type, nameAlg
	return len(t.Public) >= at+4 && binary.BigEndian.Uint32(t.Public[at:])&userWithAuth == 0
}

// checkPolicy refuses, without a command, a policy that cannot be met: the file is
// damaged, or not what the key was made with.
func checkPolicy(t *blob.TSS2) error {
	if !needsPolicy(t) {
		return nil
	}
	rules, err := newRules(t)
	if err != nil {
		return err
	}
	return inPolicyWords(rules.Check())
}

// policyCommands are the commands of a new key's policy, for PCRs as they are now, as
// they go into its file. A key with a secret needs it, too.
func (c *Chip) policyCommands(pcrs []policy.PCRSelection, secret bool) ([]blob.PolicyCommand, error) {
	if err := c.checkBanks(pcrs); err != nil {
		return nil, err
	}
	digest, err := c.conn.PCRDigest(tpm2.TPMAlgSHA256, pcrs)
	if err != nil {
		return nil, err
	}
	commands := []tpm20.PolicyCommand{tpm20.PolicyPCR(pcrs, digest)}
	if secret {
		commands = append(commands, tpm20.PolicyAuthValue())
	}
	var file []blob.PolicyCommand
	for _, c := range commands {
		file = append(file, blob.PolicyCommand{Code: c.Code, Policy: c.Body})
	}
	return file, nil
}

// checkBanks refuses banks and PCRs that the TPM has not.
func (c *Chip) checkBanks(pcrs []policy.PCRSelection) error {
	banks, err := c.conn.PCRBanks()
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
