package tpm12

import (
	"crypto/sha1"

	"maclef/internal/tpmconn"
)

// Seal encrypts data with a loaded storage key, and returns the TPM_STORED_DATA, or the
// TPM_STORED_DATA12 if pcrInfo is a TPM_PCR_INFO_LONG. An empty pcrInfo is for no PCRs. dataSecret
// is the new secret of the data. The data itself is sent in clear. TPM Main Part 3, section 10.1
// (TPM_Seal).
func (c *Conn) Seal(key Handle, keySecret, dataSecret *Secret, pcrInfo, data []byte) ([]byte, error) {
	auth, err := c.osapOnce(key, keySecret)
	if err != nil {
		return nil, err
	}
	s := auth.session
	params := adip(dataSecret, &s.shared, &s.nonceEven)
	params = append(params, sized(pcrInfo)...)
	at := len(params)
	params = append(params, sized(data)...)
	_, stored, err := c.runOnce(&command{ordinal: ordSeal, handles: u32(uint32(key)), params: params, auth: auth})
	clear(params[at:])
	clear(c.buf)
	return stored, err
}

// Unseal returns the data that was sealed with a loaded key. keySecret may be nil if the key has
// authDataUsage "never". If both secrets are needed and the data's is wrong, the error is
// TPM_AUTH2FAIL. TPM Main Part 3, section 10.2 (TPM_Unseal).
func (c *Conn) Unseal(key Handle, stored []byte, keySecret, dataSecret *Secret) ([]byte, error) {
	cmd := &command{ordinal: ordUnseal, handles: u32(uint32(key)), params: stored}
	var err error
	if cmd.auth, err = c.oiapOnce(dataSecret); err != nil {
		return nil, err
	}
	if keySecret != nil {
		cmd.auth2 = cmd.auth
		if cmd.auth, err = c.oiapOnce(keySecret); err != nil {
			c.SessionEnded(cmd.auth2.session, tpmconn.Stale)
			c.flushStale()
			return nil, err
		}
	}
	_, out, err := c.runOnce(cmd)
	if err != nil {
		return nil, err
	}
	return cmd.unsized(out)
}

// PCRRead returns the value of a PCR. Nothing authenticates the reply. TPM Main Part 3, section
// 16.2 (TPM_PCRRead).
func (c *Conn) PCRRead(pcr int) ([]byte, error) {
	cmd := &command{ordinal: ordPCRRead, params: u32(uint32(pcr))}
	_, value, err := c.run(cmd)
	if err == nil && len(value) != sha1.Size {
		return nil, cmd.badReply("a value of %d bytes, not %d", len(value), sha1.Size)
	}
	return value, err
}
