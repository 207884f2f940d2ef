package policy

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/google/go-tpm/tpm2"
	"golang.org/x/crypto/cryptobyte"

	"maclef/blob"
	"maclef/internal/pubarea"
)

// A secretAssertion is TPM2_PolicySecret: it requires the secret of an entity, such as the owner
// hierarchy. TPM 2.0 Library Part 3, section 23.4 (TPM2_PolicySecret).
type secretAssertion struct {
	runtimeChecked
	handle tpm2.TPMHandle // the entity's handle when the file was written, or 0
	name   []byte
	ref    []byte
}

const maxName = 2 + 64 // algorithm identifier and longest digest

// HierarchySecret returns TPM2_PolicySecret of a hierarchy for a key file.
func HierarchySecret(hierarchy tpm2.TPMHandle) blob.PolicyCommand {
	name := binary.BigEndian.AppendUint32(nil, uint32(hierarchy))
	body := append(bytes.Clone(name), 0, byte(len(name)))
	return blob.PolicyCommand{Code: uint32(tpm2.TPMCCPolicySecret), Policy: append(append(body, name...), 0, 0)} // no policyRef
}

func parseSecret(body []byte) (assertion, error) { return readSecret(body) }

func readSecret(body []byte) (*secretAssertion, error) {
	s := cryptobyte.String(body)
	var (
		handle    uint32
		name, ref cryptobyte.String
	)
	if !s.ReadUint32(&handle) || !s.ReadUint16LengthPrefixed(&name) || !s.ReadUint16LengthPrefixed(&ref) || !s.Empty() {
		return nil, errors.New("it is not a handle, a name and a policyRef")
	}
	if len(name) < 4 || len(name) > maxName || len(ref) > maxName {
		return nil, errors.New("its name or policyRef has an invalid size")
	}
	return &secretAssertion{handle: tpm2.TPMHandle(handle), name: name, ref: ref}, nil
}

func (a *secretAssertion) extend(d digest) digest {
	return d.extendTwice(tpm2.TPMCCPolicySecret, a.name, a.ref)
}

func (a *secretAssertion) run(r *runner) error {
	if err := r.step(); err != nil {
		return err
	}
	handle, err := a.find(r.tpm)
	if err != nil {
		return err
	}
	if counts, err := countsTries(r.tpm, handle); err != nil {
		return err
	} else if counts {
		return unmet(nil, "it asks for the secret of %s, and the TPM counts wrong ones: this program does not try secrets that a key file asks for", describeEntity(handle))
	}
	secret := r.policySecret()
	if secret == nil {
		return &Unmet{Why: "it asks for the secret of " + describeEntity(handle), Secret: true}
	}
	auth := tpm2.PasswordAuth(nil)
	if len(secret) > 0 {
		if auth, err = r.use.Authorize(secret); err != nil {
			return err
		}
	}
	session, err := r.session.Extend()
	if err != nil {
		return err
	}
	_, err = do(r.tpm, tpm2.PolicySecret{
		AuthHandle:    tpm2.AuthHandle{Handle: handle, Name: tpm2.TPM2BName{Buffer: a.name}, Auth: auth},
		PolicySession: session,
		PolicyRef:     tpm2.TPM2BNonce{Buffer: a.ref},
	})
	switch wrong := hasCode(err, tpm2.TPMRCAuthFail, tpm2.TPMRCBadAuth); {
	case wrong && len(secret) == 0:
		return &Unmet{Why: fmt.Sprintf("it asks for the secret of %s, which is not empty", describeEntity(handle)), Secret: true, cause: err}
	case wrong:
		return &WrongSecret{describeEntity(handle), err}
	}
	return asUnmet(err, "the TPM refuses the secret of %s", describeEntity(handle))
}

// WrongSecret means that the given secret is not that of Owner, an entity for whose secret
// TPM2_PolicySecret asks.
type WrongSecret struct {
	Owner string // such as "the owner hierarchy"
	cause error  // the TPM's
}

func (e *WrongSecret) Error() string { return "the given secret is not that of " + e.Owner }
func (e *WrongSecret) Unwrap() error { return e.cause }

// SecretOwner returns whose secret the policy of a key asks for, such as "the owner hierarchy". It
// returns "" if that is the key itself, or if no secret is needed.
func SecretOwner(t *blob.TSS2) (owner string) {
	p, err := pubarea.Parse(t.Public)
	if err != nil || p.Has(pubarea.AttrUserWithAuth) && !t.ByPolicy {
		return ""
	}
	all := slices.Clone(t.Policy)
	for _, signed := range t.AuthPolicy {
		all = append(all, signed.Policy...)
	}
	for _, c := range all {
		if isAuthValue(c) {
			return ""
		}
		if a, err := readSecret(c.Policy); err == nil && tpm2.TPMCC(c.Code) == tpm2.TPMCCPolicySecret {
			owner = cmp.Or(owner, a.owner())
		}
	}
	return owner
}

// owner returns a text for the entity whose secret is asked for.
func (a *secretAssertion) owner() string {
	switch {
	case len(a.name) == 4: // the name of a permanent entity is its handle
		return describeEntity(handleAt(a.name))
	case a.handle != 0:
		return describeEntity(a.handle)
	}
	return "the object " + describeName(a.name)
}

// Kinds of handles: the most significant byte. TPM 2.0 Library Part 2, section 7.2 (TPM_HT).
const (
	kindNV         = 0x01
	kindTransient  = 0x80
	kindPersistent = 0x81
)

// countsTries reports whether the TPM counts wrong secrets of an entity. A file must not be able
// to lock the TPM. TPM 2.0 Library Part 1, section 19.8.1.
func countsTries(tpm TPM, h tpm2.TPMHandle) (bool, error) {
	switch h >> 24 {
	case kindPersistent, kindTransient, kindNV:
		_, counts, err := tpm.Entity(h)
		return counts, err
	}
	return h == tpm2.TPMRHLockout, nil
}

// policySecret returns the secret for a TPM2_PolicySecret: the given secret once, unless the
// policy needs it as the key's own; else the empty one.
func (r *runner) policySecret() []byte {
	for _, b := range r.branches {
		if b.wantsAuthValue() {
			return []byte{}
		}
	}
	if r.secretUsed {
		return []byte{}
	}
	r.secretUsed = r.use.Secret != nil
	return r.use.Secret
}

// find returns the handle of the entity with the name.
func (a *secretAssertion) find(tpm TPM) (tpm2.TPMHandle, error) {
	if len(a.name) == 4 { // the name of a hierarchy or a PCR is its handle
		return handleAt(a.name), nil
	}
	if is, err := a.isAt(tpm, a.handle); is || err != nil {
		return a.handle, err
	}
	for _, kind := range []tpm2.TPMHandle{kindPersistent, kindNV} {
		handles, err := tpm.Handles(kind << 24)
		if err != nil {
			return 0, err
		}
		for _, h := range handles {
			if is, err := a.isAt(tpm, h); err != nil {
				return 0, err
			} else if is {
				a.handle = h
				return h, nil
			}
		}
	}
	return 0, unmet(nil, "it asks for the secret of an object that this TPM does not have (name %s)", shortName(a.name))
}

func handleAt(b []byte) tpm2.TPMHandle { return tpm2.TPMHandle(binary.BigEndian.Uint32(b)) }

// isAt reports whether the entity at a handle has the name.
func (a *secretAssertion) isAt(tpm TPM, h tpm2.TPMHandle) (bool, error) {
	if h>>24 != kindPersistent && h>>24 != kindNV {
		return false, nil
	}
	name, _, err := tpm.Entity(h)
	var code tpm2.TPMRC
	if errors.As(err, &code) && code != tpm2.TPMRCFailure { // no entity at this handle
		return false, nil
	}
	return err == nil && bytes.Equal(name, a.name), err
}

// describeEntity returns a text for an entity that has a secret.
func describeEntity(h tpm2.TPMHandle) string {
	switch h >> 24 {
	case kindNV:
		return fmt.Sprintf("NV index 0x%08x", uint32(h))
	case kindPersistent, kindTransient:
		return fmt.Sprintf("the object at 0x%08x", uint32(h))
	}
	return DescribeHierarchy(h)
}

// shortName returns the beginning of a name, which is enough to distinguish objects.
func shortName(name []byte) string {
	const enough = 8
	if len(name) <= enough {
		return fmt.Sprintf("%x", name)
	}
	return fmt.Sprintf("%x…", name[:enough])
}
