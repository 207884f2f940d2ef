package tpm12

import (
	"crypto/rand"
	"crypto/sha1"
	"crypto/subtle"
	"encoding/binary"
)

// ReadPubek returns the TPM_PUBKEY of the endorsement key of a TPM without an
// owner. TPM Main Part 3, section 14.4 (TPM_ReadPubek).
func (c *Conn) ReadPubek() ([]byte, error) {
	return c.endorsementKey(ordReadPubek, nil)
}

// CreateEndorsementKeyPair creates the endorsement key, which a TPM can do only once, and returns
// its TPM_PUBKEY. TPM Main Part 3, section 14.1 (TPM_CreateEndorsementKeyPair).
func (c *Conn) CreateEndorsementKeyPair() ([]byte, error) {
	return c.endorsementKey(ordCreateEndorsementKeyPair, endorsementParms)
}

// endorsementParms is the only TPM_KEY_PARMS that an endorsement key may have.
//
//	algorithmID(4)=RSA encScheme(2)=OAEP sigScheme(2)=none
//	parmSize(4) keyLength(4)=2048 numPrimes(4)=2 exponentSize(4)=0
var endorsementParms = []byte{
	0, 0, 0, 1, 0, 3, 0, 1,
	0, 0, 0, 12, 0, 0, 8, 0, 0, 0, 0, 2, 0, 0, 0, 0,
}

// endorsementKey sends a nonce and checks that the reply's checksum contains it.
func (c *Conn) endorsementKey(ord Ordinal, parms []byte) ([]byte, error) {
	var antiReplay nonce
	if _, err := rand.Read(antiReplay[:]); err != nil {
		return nil, err
	}
	cmd := &command{ordinal: ord, params: append(antiReplay[:], parms...)}
	_, out, err := c.run(cmd)
	if err != nil {
		return nil, err
	}
	if len(out) < sha1.Size {
		return nil, cmd.badReply("%d bytes are too few for a checksum", len(out))
	}
	pub, checksum := out[:len(out)-sha1.Size], out[len(out)-sha1.Size:]
	h := sha1.New()
	h.Write(pub)
	h.Write(antiReplay[:])
	if subtle.ConstantTimeCompare(h.Sum(nil), checksum) != 1 {
		return nil, cmd.badReply("its checksum is wrong")
	}
	return pub, nil
}

// TakeOwnership sets the owner's secret and creates the SRK that srk describes, a TPM_KEY without
// modulus and encData. encOwner and encSRK are the secrets encrypted with the endorsement key
// (RSA OAEP, SHA-1, label "TCPA"). TPM Main Part 3, section 6.1 (TPM_TakeOwnership).
func (c *Conn) TakeOwnership(owner *Secret, encOwner, encSRK, srk []byte) error {
	params := binary.BigEndian.AppendUint16(nil, protocolOwner)
	params = append(params, sized(encOwner)...)
	params = append(params, sized(encSRK)...)
	params = append(params, srk...)
	_, _, err := c.runOwner(&command{ordinal: ordTakeOwnership, params: params}, owner)
	return err // the reply repeats the SRK's public part
}

// protocolOwner is TPM_PID_OWNER, TPM Main Part 2, section 4.7 (TPM_PROTOCOL_ID).
const protocolOwner = 0x0005

// OwnerReadInternalPub returns the TPM_PUBKEY of the SRK. TPM Main Part 3, section 14.5
// (TPM_OwnerReadInternalPub).
func (c *Conn) OwnerReadInternalPub(key Handle, owner *Secret) ([]byte, error) {
	_, pub, err := c.runOwner(&command{ordinal: ordOwnerReadInternalPub, params: u32(uint32(key))}, owner)
	return pub, err
}

// OwnerClear removes the owner, the SRK, all keys under it, and all loaded keys and sessions. The
// TPM is then disabled, and from its next start on deactivated. TPM Main Part 3, section 6.2
// (TPM_OwnerClear).
func (c *Conn) OwnerClear(owner *Secret) error {
	err := c.setByOwner(ordOwnerClear, nil, owner)
	if err == nil {
		c.Forget()
	}
	return err
}

// OwnerSetDisable disables or enables the TPM immediately. TPM Main Part 3, section 5.2
// (TPM_OwnerSetDisable).
func (c *Conn) OwnerSetDisable(disable bool, owner *Secret) error {
	return c.setByOwner(ordOwnerSetDisable, boolean(disable), owner)
}

// ResetLockValue resets the count of wrong secrets and ends the lock. It works while the TPM is
// locked. After one wrong owner secret (TPM_AUTHFAIL) the TPM answers TPM_AUTHFAIL to the right
// one, too, until the lock has expired. TPM Main Part 3, section 9.3 (TPM_ResetLockValue).
func (c *Conn) ResetLockValue(owner *Secret) error {
	return c.setByOwner(ordResetLockValue, nil, owner)
}

// setByOwner runs an owner-authorized command that has no reply parameters.
func (c *Conn) setByOwner(ord Ordinal, params []byte, owner *Secret) error {
	cmd := &command{ordinal: ord, params: params}
	_, out, err := c.runOwner(cmd, owner)
	if err == nil && len(out) != 0 {
		return cmd.badReply("%d bytes of parameters, expected none", len(out))
	}
	return err
}
