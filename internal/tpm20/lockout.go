package tpm20

import "github.com/google/go-tpm/tpm2"

// ResetLockout forgets all wrong secrets that were counted; auth proves the lockout
// hierarchy's. Part 3, section 25.2 (TPM2_DictionaryAttackLockReset).
func (c *Conn) ResetLockout(auth tpm2.Session) error {
	_, err := c.transform(dictionaryAttackLockReset, Hierarchy(tpm2.TPMRHLockout), auth, nil, nil)
	return err
}

// dictionaryAttackLockReset is a command that go-tpm has not. Part 2, section 6.5.2.
const dictionaryAttackLockReset tpm2.TPMCC = 0x139
