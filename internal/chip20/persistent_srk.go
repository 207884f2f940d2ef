package chip20

import (
	"errors"
	"fmt"
	"slices"

	"github.com/google/go-tpm/tpm2"

	"maclef/blob"
	"maclef/internal/chip"
	"maclef/internal/tpm20"
)

// persistentSRK is the handle of the storage root key that systemd, Windows and tpm2-tools
// create. TCG TPM v2.0 Provisioning Guidance, section 7.8 (NV Memory).
const persistentSRK uint32 = 0x81000001

// readPersistentSRK reads the public area of the persistent SRK. ok is false if there is none, or
// if the TPM counts its wrong secrets, so that trying the empty secret could cost a try.
func (c *Chip) readPersistentSRK() (id parentID, object *tpm20.Object, ok bool, err error) {
	id = parentID{handle: tpm2.TPMHandle(persistentSRK)}
	delete(c.parents, id) // it may have been replaced
	object, err = c.readParent(id)
	if err != nil && c.ClassOf(err) != chip.ClassRefused {
		return id, nil, false, err
	}
	return id, object, err == nil && object.Public.ObjectAttributes.NoDA, nil
}

// persistentSRKFor returns the persistent SRK as a replacement for a primary key: ok is true if
// the primary key would have to be created, and the SRK was made from the same template.
func (c *Chip) persistentSRKFor(id parentID) (kept parentID, ok bool, err error) {
	if c.hasContext(id) {
		return parentID{}, false, nil
	}
	return c.persistentSRKForAny([]parentID{id})
}

// persistentSRKForAny returns the persistent SRK if it was made from the template of one of these
// primary keys of a hierarchy.
func (c *Chip) persistentSRKForAny(ids []parentID) (kept parentID, ok bool, err error) {
	if ids[0].handle != tpm2.TPMRHOwner {
		return parentID{}, false, nil
	}
	kept, object, ok, err := c.readPersistentSRK()
	return kept, ok && slices.ContainsFunc(ids, func(id parentID) bool { return object.MadeFrom(id.primary.template()) }), err
}

// loadUnderPersistentSRK loads a key under the persistent SRK, with the empty secret. in is nil if
// that SRK is not the key's parent.
func (c *Chip) loadUnderPersistentSRK(kept parentID, t *blob.TSS2) (in chip.LoadedKey, err error) {
	in, err = c.loadUnder(kept, t, nil)
	switch class := c.ClassOf(err); {
	case class == chip.ClassRefused && explains(err) < ofKey, class == chip.ClassAuth, class == chip.ClassLost:
		return nil, nil
	}
	return in, err
}

// withParentOrSRK is withParent for a new key. If the owner hierarchy has a secret that was not
// given, the primary key cannot be created. Then it uses the persistent SRK as parent.
func (c *Chip) withParentOrSRK(id parentID, srk chip.AuthData, f func(parent *loadedParent) error) error {
	err := c.withParent(id, srk, f)
	if len(srk) > 0 || id.handle != tpm2.TPMRHOwner || !errors.Is(err, chip.ErrWrongSRKSecret) {
		return err
	}
	kept, object, ok, readErr := c.readPersistentSRK()
	if readErr != nil {
		return readErr
	}
	if !ok || !object.Public.ObjectAttributes.FixedTPM {
		return err
	}
	if err := c.withParent(kept, nil, f); err != nil {
		return err
	}
	c.note(fmt.Sprintf("the owner's hierarchy has a secret: the parent of what was made is the key at %#x, and it can be used only while that key exists", persistentSRK))
	return nil
}
