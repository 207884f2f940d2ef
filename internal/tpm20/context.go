package tpm20

import (
	"bytes"
	"encoding/binary"
	"errors"

	"github.com/google/go-tpm/tpm2"
)

// SaveContext returns a loaded object or a session as a TPMS_CONTEXT, which this TPM can load
// until its next reset. An object stays loaded. TPM 2.0 Library Part 3, section 28.2
// (TPM2_ContextSave).
//
//	sequence(8) savedHandle(4) hierarchy(4) contextBlob(2+n)
func (c *Conn) SaveContext(o *Object) ([]byte, error) {
	saved, err := c.runPlain(tpm2.TPMCCContextSave, handleBytes(o.Handle))
	if err != nil {
		return nil, err
	}
	r := reader{b: saved}
	r.next(8 + 4 + 4)
	if r.sized(); !r.whole() {
		return nil, c.unanswered(false, malformed(tpm2.TPMCCContextSave, "%d bytes are not a valid context", len(saved)))
	}
	return bytes.Clone(saved), nil
}

// IsObjectContext reports whether a saved context says that it is of an object. A session's
// context can be loaded only once. TPM 2.0 Library Part 2, section 14.5 (TPMS_CONTEXT).
func IsObjectContext(saved []byte) bool {
	const at = 8 // offset of savedHandle, after the sequence number
	return len(saved) > at && saved[at] == transient
}

// LoadContext loads an object that SaveContext returned. The result has a new handle and the name
// and public area of like. TPM 2.0 Library Part 3, section 28.3 (TPM2_ContextLoad).
func (c *Conn) LoadContext(saved []byte, like *Object) (*Object, error) {
	handle, err := c.loadContext(saved)
	if err != nil {
		return nil, err
	}
	if err := mustBeTransient(handle); err != nil {
		return nil, c.unanswered(false, malformed(tpm2.TPMCCContextLoad, "%w", err))
	}
	return &Object{Handle: handle, Name: like.Name, Public: like.Public}, nil
}

func (c *Conn) loadContext(saved []byte) (tpm2.TPMHandle, error) {
	out, err := c.runPlain(tpm2.TPMCCContextLoad, saved)
	if err != nil {
		return 0, err
	}
	if len(out) != 4 {
		return 0, c.unanswered(false, malformed(tpm2.TPMCCContextLoad, "%d bytes are not a valid handle", len(out)))
	}
	return handleAt(out, 0), nil
}

// Flush frees a loaded object or a session, including those of other programs. It returns nil if
// the handle is gone already. TPM 2.0 Library Part 3, section 28.4 (TPM2_FlushContext).
func (c *Conn) Flush(h tpm2.TPMHandle) error {
	var err error
	for range 2 { // a resource that stays loaded takes one of the TPM's few slots
		var out []byte
		out, err = c.runPlain(tpm2.TPMCCFlushContext, handleBytes(h))
		if err == nil && len(out) != 0 {
			return c.unanswered(false, malformed(tpm2.TPMCCFlushContext, "%d bytes of parameters, expected none", len(out)))
		}
		if err == nil || !isErrorReply(err) {
			return err
		}
		if goneAlready(err) {
			c.handleGone(h)
			return nil
		}
	}
	return err
}

func handleBytes(h tpm2.TPMHandle) []byte { return binary.BigEndian.AppendUint32(nil, uint32(h)) }

// goneAlready reports whether err is the answer of a TPM, or of the kernel's resource manager, to
// TPM2_FlushContext of an unknown handle.
func goneAlready(err error) bool {
	var which tpm2.TPMFmt1Error
	if errors.As(err, &which) {
		_, handle := which.Handle()
		_, parameter := which.Parameter()
		if handle+parameter == 0 { // the error is about a session, or unspecific
			return false
		}
	}
	return errors.Is(err, tpm2.TPMRCHandle) || errors.Is(err, tpm2.TPMRCValue) || errors.Is(err, tpm2.TPMRCReferenceH0)
}
