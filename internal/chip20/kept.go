package chip20

import (
	"errors"
	"fmt"

	"github.com/google/go-tpm/tpm2"

	"maclef/blob"
	"maclef/internal/chip"
	"maclef/internal/tpm20"
)

// keptSRK is where systemd, Windows and tpm2-tools have the TPM keep a storage root key.
// TCG TPM v2.0 Provisioning Guidance, section 7.8 (NV Memory).
const keptSRK uint32 = 0x81000001

// keptStorage returns the storage key that the TPM keeps at keptSRK, as far as an empty
// secret may be tried on it: where it counts wrong secrets that could cost a try.
func (c *Chip) keptStorage() (id parentID, object *tpm20.Object, ok bool, err error) {
	id = parentID{handle: tpm2.TPMHandle(keptSRK)}
	delete(c.parents, id) // it may be another key by now
	object, err = c.readParent(id)
	if err != nil && c.ClassOf(err) != chip.ClassRefused {
		return id, nil, false, err
	}
	return id, object, err == nil && object.Public.ObjectAttributes.NoDA, nil
}

// keptFor returns it where it can be the primary that a file means, and that would have
// to be made: it was made from the same template.
func (c *Chip) keptFor(id parentID) (kept parentID, ok bool, err error) {
	if id.handle != tpm2.TPMRHOwner || c.hasContext(id) {
		return parentID{}, false, nil
	}
	kept, object, ok, err := c.keptStorage()
	return kept, ok && object.MadeFrom(id.primary.template()), err
}

// loadUnderKeptFor loads a key under the storage key that the TPM keeps, with the empty
// secret. It is nil where that does not fit.
func (c *Chip) loadUnderKeptFor(id parentID, t *blob.TSS2) (chip.LoadedKey, error) {
	kept, ok, err := c.keptFor(id)
	if !ok {
		return nil, err
	}
	in, err := c.loadUnder(kept, t, nil)
	switch c.ClassOf(err) {
	case chip.ClassRefused, chip.ClassAuth, chip.ClassLost:
		return nil, nil
	}
	return in, err
}

// underMaker is underParent for a new key. Where the owner's hierarchy has a secret that
// was not given, and so the primary cannot be made, the storage key that the TPM keeps is
// the parent; id says so then.
func (c *Chip) underMaker(id *parentID, srk chip.AuthData, f func(parent *tpm20.Object, auth tpm2.Session) error) error {
	err := c.underParent(*id, srk, f)
	if len(srk) > 0 || id.handle != tpm2.TPMRHOwner || !errors.Is(err, chip.ErrWrongSRKSecret) {
		return err
	}
	kept, _, ok, readErr := c.keptStorage()
	if readErr != nil {
		return readErr
	}
	if !ok {
		return err
	}
	*id = kept
	if err := c.underParent(kept, nil, f); err != nil {
		return err
	}
	c.note(fmt.Sprintf("the owner's hierarchy has a secret: what was made is under the key that the TPM keeps at %#x, and lives as long as that is kept", keptSRK))
	return nil
}
