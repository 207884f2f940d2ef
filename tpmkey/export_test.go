package tpmkey

import (
	"context"
	"crypto/rsa"
	"net"

	"github.com/google/go-tpm/tpm2"

	"maclef/blob"
	"maclef/internal/contextcache"
	"maclef/internal/tpm20"
)

// A TPM that tests open keeps no contexts on disk, unless UseCache says where.
var _ = UseCache(func(string) (*contextcache.Cache, error) { return nil, nil })

// UseCache says where the contexts are of TPMs that are opened from now on, by their
// names, and how to undo that.
func UseCache(open func(tpm string) (*contextcache.Cache, error)) (undo func()) {
	before := openCache
	openCache = open
	return func() { openCache = before }
}

// CreateArea makes a key of any kind, such as other programs make, in a TPM 2.0 whose
// owner has no secret.
func (t *TPM) CreateArea(area *tpm2.TPMTPublic) (*blob.TSS2, error) {
	return t.CreateAreaIn(tpm2.TPMRHOwner, area)
}

// CreateAreaIn is CreateArea in another hierarchy.
func (t *TPM) CreateAreaIn(hierarchy tpm2.TPMHandle, area *tpm2.TPMTPublic) (*blob.TSS2, error) {
	file := blob.TSS2{EmptyAuth: true, Parent: uint32(hierarchy)}
	err := t.underPrimary(hierarchy, func(conn *tpm20.Conn, parent *tpm20.Object) error {
		session, err := conn.StartHMAC(parent, nil, nil)
		if err != nil {
			return err
		}
		defer conn.EndSessions()
		file.Private, file.Public, err = conn.Create(parent, session.For(nil, tpm20.EncryptIn), nil, nil, *area)
		return err
	})
	if err != nil {
		return nil, err
	}
	return blob.NewTSS2(file)
}

// ImportArea imports a software RSA key that may sign only.
func (t *TPM) ImportArea(area *tpm2.TPMTPublic, private *rsa.PrivateKey) (*blob.TSS2, error) {
	area.ObjectAttributes.FixedTPM, area.ObjectAttributes.FixedParent, area.ObjectAttributes.SensitiveDataOrigin = false, false, false
	area.Unique = tpm2.NewTPMUPublicID(tpm2.TPMAlgRSA, &tpm2.TPM2BPublicKeyRSA{Buffer: private.N.Bytes()})
	sensitive := tpm2.New2B(tpm2.TPMTSensitive{
		SensitiveType: tpm2.TPMAlgRSA,
		Sensitive:     tpm2.NewTPMUSensitiveComposite(tpm2.TPMAlgRSA, &tpm2.TPM2BPrivateKeyRSA{Buffer: private.Primes[0].Bytes()}),
	})
	file := blob.TSS2{EmptyAuth: true, Parent: uint32(tpm2.TPMRHOwner), Public: tpm2.Marshal(tpm2.New2B(*area))}
	err := t.underPrimary(tpm2.TPMRHOwner, func(conn *tpm20.Conn, parent *tpm20.Object) (err error) {
		duplicate := tpm2.Marshal(tpm2.TPM2BPrivate{Buffer: tpm2.Marshal(sensitive)})
		file.Private, err = conn.Import(parent, nil, file.Public, duplicate, []byte{0, 0})
		return err
	})
	if err != nil {
		return nil, err
	}
	return blob.NewTSS2(file)
}

// underPrimary runs f with the primary key that files mean.
func (t *TPM) underPrimary(hierarchy tpm2.TPMHandle, f func(conn *tpm20.Conn, parent *tpm20.Object) error) error {
	template := tpm2.ECCSRKTemplate
	template.Unique = tpm2.NewTPMUPublicID(tpm2.TPMAlgECC, &tpm2.TPMSECCPoint{})
	return t.run(context.Background(), func() error {
		conn := tpm20.New(t.dev)
		parent, err := conn.CreatePrimary(hierarchy, nil, template)
		if err != nil {
			return err
		}
		defer conn.Flush(parent.Handle)
		return f(conn, parent)
	})
}

// WithConn is what TLSConfig's certificates use.
func (k *Key) WithConn(ctx context.Context, c net.Conn) *Key { return k.withConn(ctx, c) }

// ParseChain is parseChain.
var ParseChain = parseChain
