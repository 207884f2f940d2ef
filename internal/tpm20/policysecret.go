package tpm20

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/google/go-tpm/tpm2"
	"golang.org/x/crypto/cryptobyte"
)

// A secretTerm is TPM2_PolicySecret: somebody's secret must be known, such as the
// owner's.
//
// TPM 2.0 Library Part 3, section 23.4
type secretTerm struct {
	handle tpm2.TPMHandle // where it was, or 0
	name   []byte
	ref    []byte
}

const maxName = 2 + 64 // an algorithm and its digest

func newSecretTerm(body []byte) (*secretTerm, error) {
	s := cryptobyte.String(body)
	var (
		handle    uint32
		name, ref cryptobyte.String
	)
	if !s.ReadUint32(&handle) || !s.ReadUint16LengthPrefixed(&name) || !s.ReadUint16LengthPrefixed(&ref) || !s.Empty() {
		return nil, errors.New("it is not a handle, a name and a policyRef")
	}
	if len(name) < 4 || len(name) > maxName || len(ref) > maxName {
		return nil, errors.New("its name or policyRef is not of a size that there is")
	}
	return &secretTerm{tpm2.TPMHandle(handle), name, ref}, nil
}

func (t *secretTerm) extend(d policyDigest) policyDigest {
	return d.extendTwice(tpm2.TPMCCPolicySecret, t.name, t.ref)
}

func (t *secretTerm) check(policyDigest) error { return nil }

func (t *secretTerm) run(r *policyRun) error {
	if err := r.step(); err != nil {
		return err
	}
	handle, err := t.find(r)
	if err != nil {
		return err
	}
	if counts, err := r.conn.countsTries(handle); err != nil {
		return err
	} else if counts {
		return unmet(nil, "it asks for the secret of %s, of which the TPM counts wrong ones: this program does not try it for a key file", holder(handle))
	}
	secret := r.secretOfOthers()
	if secret == nil {
		return &Unmet{Why: "it asks for the secret of " + holder(handle), Secret: true}
	}
	auth := tpm2.PasswordAuth(nil)
	if len(secret) > 0 {
		session, err := r.hmac()
		if err != nil {
			return err
		}
		auth = session.For(secret, 0)
	}
	r.session.ran = true
	_, err = Run(r.conn, tpm2.PolicySecret{
		AuthHandle:    tpm2.AuthHandle{Handle: handle, Name: tpm2.TPM2BName{Buffer: t.name}, Auth: auth},
		PolicySession: r.session.handle,
		PolicyRef:     tpm2.TPM2BNonce{Buffer: t.ref},
	})
	if len(secret) == 0 && says(err, tpm2.TPMRCAuthFail, tpm2.TPMRCBadAuth) {
		return unmet(err, "it asks for the secret of %s, which is not empty", holder(handle))
	}
	return r.explain(err, "the TPM refuses the secret of %s", holder(handle))
}

// countsTries reports whether wrong secrets of something count towards a lockout: a file
// must not bring that about. TPM 2.0 Library Part 1, section 19.8.1.
func (c *Conn) countsTries(h tpm2.TPMHandle) (bool, error) {
	switch h >> 24 {
	case persistentFirst >> 24, transient:
		o, err := c.ReadPublic(h)
		return err == nil && !o.Public.ObjectAttributes.NoDA, err
	case nvFirst >> 24:
		rsp, err := Run(c, tpm2.NVReadPublic{NVIndex: h})
		if err != nil {
			return false, err
		}
		public, err := rsp.NVPublic.Contents()
		return err != nil || !public.Attributes.NoDA, nil
	}
	return h == tpm2.TPMRHLockout, nil
}

// secretOfOthers is what there is for TPM2_PolicySecret: the key's secret, once, where
// the key wants none itself, else the empty one.
func (r *policyRun) secretOfOthers() []byte {
	for _, b := range r.branches {
		if b.wantsAuthValue() {
			return []byte{}
		}
	}
	if r.spent {
		return []byte{}
	}
	r.spent = r.use.Secret != nil
	return r.use.Secret
}

func (r *policyRun) hmac() (*Session, error) {
	if r.use.HMAC == nil {
		return nil, errors.New("no session for TPM2_PolicySecret")
	}
	return r.use.HMAC()
}

// find returns the handle of what has the name.
func (t *secretTerm) find(r *policyRun) (tpm2.TPMHandle, error) {
	if len(t.name) == 4 { // of a hierarchy, or a PCR: the name is the handle
		return handleAt(t.name, 0), nil
	}
	if is, err := t.isAt(r.conn, t.handle); is || err != nil {
		return t.handle, err
	}
	for _, first := range []tpm2.TPMHandle{persistentFirst, nvFirst} {
		handles, err := r.conn.Handles(first)
		if err != nil {
			return 0, err
		}
		for _, h := range handles {
			if is, err := t.isAt(r.conn, h); err != nil {
				return 0, err
			} else if is {
				t.handle = h
				return h, nil
			}
		}
	}
	return 0, unmet(nil, "it asks for the secret of an object that this TPM has not, or has no more (name %s)", shortName(t.name))
}

// Where handles begin. TPM 2.0 Library Part 2, section 7.4 (TPM_HC).
const (
	persistentFirst tpm2.TPMHandle = 0x81000000
	nvFirst         tpm2.TPMHandle = 0x01000000
)

// isAt reports whether what is at a handle has the name.
func (t *secretTerm) isAt(c *Conn, h tpm2.TPMHandle) (bool, error) {
	var name []byte
	var err error
	switch h >> 24 {
	case persistentFirst >> 24:
		var o *Object
		if o, err = c.ReadPublic(h); err == nil {
			name = o.Name.Buffer
		}
	case nvFirst >> 24:
		name, err = c.nvName(h)
	}
	var refused *Error
	if errors.As(err, &refused) && !refused.Failed { // nothing there
		return false, nil
	}
	return err == nil && bytes.Equal(name, t.name), err
}

// holder is whose secret is meant.
func holder(h tpm2.TPMHandle) string {
	switch h {
	case tpm2.TPMRHOwner:
		return "the owner"
	case tpm2.TPMRHEndorsement:
		return "the endorsement hierarchy"
	case tpm2.TPMRHPlatform:
		return "the platform"
	case tpm2.TPMRHLockout:
		return "the lockout"
	}
	if h>>24 == nvFirst>>24 {
		return fmt.Sprintf("NV index %#08x", uint32(h))
	}
	return fmt.Sprintf("%#08x", uint32(h))
}

func shortName(name []byte) string {
	const enough = 8
	if len(name) <= enough {
		return fmt.Sprintf("%x", name)
	}
	return fmt.Sprintf("%x…", name[:enough])
}
