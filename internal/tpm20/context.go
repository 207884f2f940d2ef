package tpm20

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/google/go-tpm/tpm2"
)

// SaveContext returns a loaded object in a form that only this TPM reads, until it
// is restarted; the object stays loaded. Part 3, section 28.2 (TPM2_ContextSave).
func (c *Conn) SaveContext(o *Object) ([]byte, error) {
	rsp, err := Run(c, tpm2.ContextSave{SaveHandle: o.Handle})
	if err != nil {
		return nil, err
	}
	return tpm2.Marshal(rsp.Context), nil
}

// LoadContext loads what SaveContext returned of an object that was like this one,
// and returns it with its new handle. Part 3, section 28.3 (TPM2_ContextLoad).
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
	context, err := contextOf(saved)
	if err != nil {
		return 0, err
	}
	rsp, err := Run(c, tpm2.ContextLoad{Context: *context})
	if err != nil {
		return 0, err
	}
	return rsp.LoadedHandle, nil
}

func contextOf(saved []byte) (context *tpm2.TPMSContext, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("no saved context: %v", r)
		}
	}()
	context, err = tpm2.Unmarshal[tpm2.TPMSContext](saved)
	if err == nil && !bytes.Equal(tpm2.Marshal(*context), saved) {
		err = errors.New("no saved context")
	}
	return context, err
}

// Flush frees a loaded object or a session, whoever has loaded it; one that is gone
// already is no error. Part 3, section 28.4 (TPM2_FlushContext).
func (c *Conn) Flush(h tpm2.TPMHandle) error {
	var err error
	for range 2 { // what stays loaded takes one of few places until the TPM is restarted
		_, err = Run(c, tpm2.FlushContext{FlushHandle: h})
		if err == nil || !isRefusal(err) {
			return err
		}
		if goneAlready(err) {
			c.vanished(h)
			return nil
		}
	}
	return err
}

// goneAlready reports what a TPM, or the kernel's resource manager, says to flushing
// what it does not have.
func goneAlready(err error) bool {
	var which tpm2.TPMFmt1Error
	if errors.As(err, &which) {
		_, handle := which.Handle()
		_, parameter := which.Parameter()
		if handle+parameter == 0 { // another session, or nothing in particular, is not gone
			return false
		}
	}
	return errors.Is(err, tpm2.TPMRCHandle) || errors.Is(err, tpm2.TPMRCValue) || errors.Is(err, tpm2.TPMRCReferenceH0)
}
