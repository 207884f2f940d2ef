package tpm12

import "encoding/binary"

// Saved contexts make room for another key and bring the first one back without
// its parent's secret and without an RSA operation. What libtpms 0.9.2 does with
// them, as far as the specification leaves it open:
//
//   - A context can be loaded again and again (3000 times were tried), also while
//     the key is loaded; then there are two of them, with handles of their own.
//   - It belongs to the TPM and not to a connection: any process can load it.
//   - It does not outlive a restart: TPM_BADCONTEXT, as for a damaged one (which
//     can be TPM_DECRYPT_ERROR, too). Then LoadKey2 is what is left.
//   - Without room, it is TPM_NOSPACE, as for LoadKey2.
//   - A key gets the handle it had, where that is free. keepHandle must not insist
//     on it: with the handle taken, libtpms answers TPM_BAD_HANDLE, and flushes
//     the key that has it.
//   - A saved session is out of the TPM. It loads once, and for an entity that is
//     loaded: with another handle it is TPM_BAD_HANDLE.

// SaveContext returns a loaded key in a form that only this TPM reads, about 600
// bytes for 2048 bits; the key stays loaded. For an unknown handle, and the SRK, it
// is TPM_INVALID_RESOURCE, for a key that the owner keeps loaded
// TPM_OWNER_CONTROL. TPM Main Part 3, section 21.2 (TPM_SaveContext).
func (c *Conn) SaveContext(key Handle) ([]byte, error) {
	return c.saveContext(uint32(key), resourceKey)
}

func (c *Conn) saveContext(handle, resource uint32) ([]byte, error) {
	var label [16]byte // for the caller's use
	cmd := &command{ordinal: ordSaveContext, handles: u32(handle), params: append(u32(resource), label[:]...)}
	_, out, err := c.run(cmd)
	if err != nil {
		return nil, err
	}
	context, err := cmd.unsized(out)
	if err == nil && len(context) == 0 {
		return nil, cmd.untrusted("an empty context")
	}
	return context, err
}

// IsKeyContext reports whether a saved context says that it is of a key, and not of a
// session, which could be restored once only. Part 2, section 18.1 (TPM_CONTEXT_BLOB).
func IsKeyContext(saved []byte) bool {
	const at = 2 // behind the tag
	return len(saved) >= at+4 && binary.BigEndian.Uint32(saved[at:]) == resourceKey
}

// LoadContext loads a key that SaveContext returned, and returns its handle, which
// need not be the one it had. An error that is no *Error (the reply was lost)
// leaves open whether the key was loaded, as it does with LoadKey2. TPM Main Part
// 3, section 21.3 (TPM_LoadContext).
func (c *Conn) LoadContext(context []byte) (Handle, error) {
	const noEntity = 0 // it is for sessions
	h, err := c.loadContext(noEntity, resourceKey, context)
	return Handle(h), err
}

// loadContext loads a key, or the session of an entity.
func (c *Conn) loadContext(entity, resource uint32, context []byte) (uint32, error) {
	const keepHandle = false
	cmd := &command{
		ordinal: ordLoadContext, handles: u32(entity),
		params: append(boolean(keepHandle), sized(context)...), outHandles: 4,
	}
	handle, rest, err := c.run(cmd)
	return c.loadedHandle(cmd, resource, handle, rest, err)
}

// SavedSessions returns the numbers of the sessions that are saved outside the TPM, and
// not restored, whoever saved them. They take places, too, and a TPM that knows too many
// saves no more: TPM_TOOMANYCONTEXTS.
func (c *Conn) SavedSessions() ([]uint32, error) { return c.loaded(resourceContext) }

// FlushSaved frees what SavedSessions has listed: it cannot be restored any more.
func (c *Conn) FlushSaved(number uint32) error { return c.flush(number, resourceContext) }
