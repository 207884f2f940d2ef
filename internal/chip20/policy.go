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
	"maclef/internal/pubarea"
	"maclef/internal/tpm20"
)

// policyAuth runs the key's policy, for one command, and returns the session that
// authorizes it, and what encrypts where that cannot. It is run anew for each. An error
// is chip.ErrPolicy where the policy does not hold; then the secret was not tried.
func (k *loadedKey) policyAuth(command tpm2.TPMCC, key chip.AuthData, enc tpm20.Encrypt) (auth tpm2.Session, extra []tpm2.Session, err error) {
	if k.rules == nil {
		if k.rules, err = newRules(k.file); err != nil {
			return nil, nil, err
		}
	}
	s, err := k.chip.policySession(k.rules.Alg(), k.parent)
	if err != nil {
		return nil, nil, err
	}
	if key == nil { // the file says that it has none
		key = chip.AuthData{}
	}
	proved, err := k.rules.Run(k.chip.conn, s, policy.Use{
		Command: command, Secret: key,
		Authorize: func(secret []byte) (tpm2.Session, error) {
			shared, err := k.chip.sharedSession(k.parent)
			if err != nil {
				return nil, err
			}
			return shared.For(secret, 0), nil
		},
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
	var unmet *policy.Unmet
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
		c.policies[alg], err = c.conn.StartPolicy(alg, salt)
		return err
	})
	return c.policies[alg], err
}

// newRules reads the policy of a key file.
func newRules(t *blob.TSS2) (*policy.Policy, error) {
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

// damagedPolicy is a refusal: the TPM was not asked, and has nothing to repair.
func damagedPolicy(err error) error {
	return chip.OfKind(blob.ErrDamaged, fmt.Sprintf("%v; get a good copy of the file", err), nil)
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

// newPolicy returns the commands of a new object's policy, for PCRs as they are now, and
// their digest. An object with a secret needs it, too.
func (c *Chip) newPolicy(pcrs []policy.PCRSelection, secret bool) (commands []blob.PolicyCommand, digest []byte, err error) {
	if pcrs == nil {
		return nil, nil, nil
	}
	if err := c.checkBanks(pcrs); err != nil {
		return nil, nil, c.explain(err, nil)
	}
	values, err := policy.PCRs(tpm2.TPMAlgSHA256, pcrs, c.conn.PCRRead)
	if err != nil {
		return nil, nil, c.explain(err, nil)
	}
	commands = []blob.PolicyCommand{values}
	if secret {
		commands = append(commands, policy.AuthValue())
	}
	digest, err = policy.Digest(tpm2.TPMAlgSHA256, commands)
	return commands, digest, err
}

// checkBanks refuses banks and PCRs that the TPM has not.
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
