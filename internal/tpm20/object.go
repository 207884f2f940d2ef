package tpm20

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/google/go-tpm/tpm2"
)

// An Object is a transient object, a persistent object or, if Public is nil, a hierarchy.
type Object struct {
	Handle tpm2.TPMHandle
	Name   tpm2.TPM2BName
	Public *tpm2.TPMTPublic
	// Qualified is the qualified name, nil if the TPM was not asked for it.
	Qualified []byte
}

// PrimaryOf reports whether the object is a primary object of a hierarchy, by its qualified name.
// TPM 2.0 Library Part 1, section 16.
func (o *Object) PrimaryOf(hierarchy tpm2.TPMHandle) bool {
	alg, err := o.Public.NameAlg.Hash()
	if err != nil || len(o.Name.Buffer) < 2 {
		return false
	}
	h := alg.New()
	h.Write(binary.BigEndian.AppendUint32(nil, uint32(hierarchy)))
	h.Write(o.Name.Buffer)
	return bytes.Equal(o.Qualified, h.Sum(o.Name.Buffer[:2:2]))
}

// Hierarchy returns a hierarchy, such as tpm2.TPMRHOwner, as an Object.
func Hierarchy(h tpm2.TPMHandle) *Object { return &Object{Handle: h, Name: tpm2.HandleName(h)} }

// Auth returns the object as a handle of a command that s authorizes. s nil is the empty
// password.
func (o *Object) Auth(s tpm2.Session) tpm2.AuthHandle {
	if s == nil {
		s = tpm2.PasswordAuth(nil)
	}
	return tpm2.AuthHandle{Handle: o.Handle, Name: o.Name, Auth: s}
}

// check checks that the object's name matches its public area.
func (o *Object) check() error {
	if o.Public == nil {
		return errors.New("it has no public area")
	}
	name, err := tpm2.ObjectName(o.Public)
	if err == nil && !bytes.Equal(name.Buffer, o.Name.Buffer) {
		err = errors.New("its name is not that of its public area")
	}
	return err
}

// CreatePrimary creates a primary object without a secret in a hierarchy and returns it, loaded.
// TPM 2.0 Library Part 3, section 24.1 (TPM2_CreatePrimary).
func (c *Conn) CreatePrimary(hierarchy tpm2.TPMHandle, auth tpm2.Session, template tpm2.TPMTPublic) (*Object, error) {
	o := &Object{}
	_, err := runChecked(c, tpm2.CreatePrimary{
		PrimaryHandle: Hierarchy(hierarchy).Auth(auth), InPublic: tpm2.New2B(template),
	}, func(rsp *tpm2.CreatePrimaryResponse) (err error) {
		o.Handle, o.Name = rsp.ObjectHandle, rsp.Name
		if o.Public, err = publicOf(rsp.OutPublic.Bytes(), rsp.Name.Buffer); err != nil {
			return err
		}
		if !o.MadeFrom(template) {
			return errors.New("its object differs from the template")
		}
		return mustBeTransient(o.Handle)
	})
	if err != nil {
		return nil, err
	}
	return o, nil
}

// MadeFrom reports whether the object's public area equals a template, except for the unique
// field.
func (o *Object) MadeFrom(template tpm2.TPMTPublic) bool {
	if o.Public.Type != template.Type {
		return false
	}
	made := *o.Public
	made.Unique = template.Unique
	return bytes.Equal(tpm2.Marshal(made), tpm2.Marshal(template))
}

func mustBeTransient(h tpm2.TPMHandle) error {
	if h>>24 != transient {
		return fmt.Errorf("handle %#08x is not a transient object's", uint32(h))
	}
	return nil
}

// Load loads an object under its parent; Flush frees it. private and public are a TPM2B_PRIVATE
// and a TPM2B_PUBLIC. TPM 2.0 Library Part 3, section 12.2 (TPM2_Load).
func (c *Conn) Load(parent *Object, auth tpm2.Session, private, public []byte) (*Object, error) {
	inPrivate, err := unsized("private area", private)
	if err != nil {
		return nil, err
	}
	inPublic, err := unsized("public area", public)
	if err != nil {
		return nil, err
	}
	o := &Object{}
	if o.Public, err = publicOf(inPublic, nil); err != nil {
		return nil, fmt.Errorf("public area: %w", err)
	}
	_, err = runChecked(c, tpm2.Load{
		ParentHandle: parent.Auth(auth),
		InPrivate:    tpm2.TPM2BPrivate{Buffer: inPrivate},
		InPublic:     tpm2.BytesAs2B[tpm2.TPMTPublic](inPublic),
	}, func(rsp *tpm2.LoadResponse) error {
		o.Handle, o.Name = rsp.ObjectHandle, rsp.Name
		if err := o.check(); err != nil {
			return err
		}
		return mustBeTransient(o.Handle)
	})
	if err != nil {
		return nil, err
	}
	return o, nil
}

// Import converts an object that was duplicated for parent, without an inner wrapper, to one that
// Load takes, and returns its TPM2B_PRIVATE. public is a TPM2B_PUBLIC, duplicate a TPM2B_PRIVATE,
// seed a TPM2B_ENCRYPTED_SECRET. TPM 2.0 Library Part 3, section 13.3 (TPM2_Import).
func (c *Conn) Import(parent *Object, auth tpm2.Session, public, duplicate, seed []byte) (private []byte, err error) {
	parts := [3][]byte{public, duplicate, seed}
	for i, name := range []string{"public area", "duplicate", "encrypted seed"} {
		if parts[i], err = unsized(name, parts[i]); err != nil {
			return nil, err
		}
	}
	rsp, err := Run(c, tpm2.Import{
		ParentHandle: parent.Auth(auth),
		ObjectPublic: tpm2.BytesAs2B[tpm2.TPMTPublic](parts[0]),
		Duplicate:    tpm2.TPM2BPrivate{Buffer: parts[1]},
		InSymSeed:    tpm2.TPM2BEncryptedSecret{Buffer: parts[2]},
		Symmetric:    tpm2.TPMTSymDef{Algorithm: tpm2.TPMAlgNull},
	})
	if err != nil {
		return nil, err
	}
	return appendSized(nil, rsp.OutPrivate.Buffer), nil
}

// ReadPublic reads the public area of the object with this handle. If the object has algorithms that
// go-tpm does not know, the error is an *UnknownObject. TPM 2.0 Library Part 3, section 12.4
// (TPM2_ReadPublic).
func (c *Conn) ReadPublic(h tpm2.TPMHandle) (*Object, error) {
	o := &Object{Handle: h}
	var unknown *UnknownObject
	_, err := runChecked(c, tpm2.ReadPublic{ObjectHandle: h}, func(rsp *tpm2.ReadPublicResponse) (err error) {
		o.Name, o.Qualified = rsp.Name, rsp.QualifiedName.Buffer
		if o.Public, err = publicOf(rsp.OutPublic.Bytes(), rsp.Name.Buffer); err != nil {
			if unknown = unknownObject(h, rsp.OutPublic.Bytes(), rsp.Name.Buffer); unknown != nil {
				return nil
			}
		}
		return err
	})
	switch {
	case err != nil:
		return nil, err
	case unknown != nil:
		return nil, unknown
	}
	return o, nil
}

// Entity returns the name of the object or NV index at a handle, and whether the TPM counts wrong
// secrets for it. TPM 2.0 Library Part 1, section 19.8.1; TPM 2.0 Library Part 3, section 31.6
// (TPM2_NV_ReadPublic).
func (c *Conn) Entity(h tpm2.TPMHandle) (name []byte, counts bool, err error) {
	const nvIndex = 0x01
	if h>>24 != nvIndex {
		o, err := c.ReadPublic(h)
		if err != nil {
			return nil, false, err
		}
		return o.Name.Buffer, !o.Public.ObjectAttributes.NoDA, nil
	}
	rsp, err := Run(c, tpm2.NVReadPublic{NVIndex: h})
	if err != nil {
		return nil, false, err
	}
	public, err := rsp.NVPublic.Contents()
	return rsp.NVName.Buffer, err != nil || !public.Attributes.NoDA, nil
}

// unsized returns the contents of a TPM2B that fills b.
func unsized(what string, b []byte) ([]byte, error) {
	if len(b) < 2 || int(binary.BigEndian.Uint16(b)) != len(b)-2 {
		return nil, fmt.Errorf("%s: its length field does not fit its %d bytes", what, len(b))
	}
	return b[2:], nil
}
