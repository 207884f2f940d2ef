package tpm12

import "encoding/binary"

// Saving a key's context makes room for another key. Loading the context needs neither the
// parent's secret nor an RSA operation. The specification leaves some of the behaviour open;
// libtpms 0.9.2 does this:
//
//   - A context can be loaded any number of times (3000 were tried), also while the key is loaded.
//     Then the key is loaded twice, with two handles.
//   - A context belongs to the TPM, not to a connection: any process can load it.
//   - A context does not survive a restart. Loading it fails with TPM_BADCONTEXT, like a damaged
//     context (which may also give TPM_DECRYPT_ERROR). Then the key needs LoadKey2.
//   - If the TPM has no room, the error is TPM_NOSPACE, as with LoadKey2.
//   - A key gets its old handle if that is free. keepHandle must be false: if it is true and the
//     handle is in use, libtpms answers TPM_BAD_HANDLE and flushes the key that uses the handle.
//   - A saved session is no longer in the TPM. It can be loaded once, and only with the handle of
//     the loaded key that it belongs to; another handle gives TPM_BAD_HANDLE.

// SaveContext returns a loaded key encrypted by and for this TPM, about 600 bytes for 2048 bits.
// The key stays loaded. For an unknown handle and for the SRK the error is TPM_INVALID_RESOURCE;
// for a key under owner control it is TPM_OWNER_CONTROL. TPM Main Part 3, section 21.2
// (TPM_SaveContext).
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
		return nil, cmd.badReply("an empty context")
	}
	return context, err
}

// IsKeyContext reports whether a saved context says that it is of a key. A session's context can
// be loaded only once. TPM Main Part 2, section 18.1 (TPM_CONTEXT_BLOB).
func IsKeyContext(saved []byte) bool {
	const at = 2 // offset of resourceType, after the tag
	return len(saved) >= at+4 && binary.BigEndian.Uint32(saved[at:]) == resourceKey
}

// LoadContext loads a key that SaveContext returned, and returns its handle, which may differ
// from the old one. After an error other than *Error the key may be loaded, as with LoadKey2. TPM
// Main Part 3, section 21.3 (TPM_LoadContext).
func (c *Conn) LoadContext(context []byte) (Handle, error) {
	const noEntity = 0 // only sessions have an entity
	h, err := c.loadContext(noEntity, resourceKey, context)
	return Handle(h), err
}

// loadContext loads a key, or a session of an entity.
func (c *Conn) loadContext(entity, resource uint32, context []byte) (uint32, error) {
	const keepHandle = false
	cmd := &command{
		ordinal: ordLoadContext, handles: u32(entity),
		params: append(boolean(keepHandle), sized(context)...), outHandles: 4,
	}
	handle, rest, err := c.run(cmd)
	return c.loadedHandle(cmd, resource, handle, rest, err)
}

// SavedSessions returns the numbers of all saved sessions, including those of other programs.
// They count against a limit: when it is reached, saving fails with TPM_TOOMANYCONTEXTS.
func (c *Conn) SavedSessions() ([]uint32, error) { return c.loaded(resourceContext) }

// FlushSaved frees a session that SavedSessions listed. It can no longer be restored.
func (c *Conn) FlushSaved(number uint32) error { return c.flush(number, resourceContext) }
