package blob

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"math/big"
	"strings"
	"testing"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"

	"maclef/internal/tpmtest"
)

// persistentRSA is the storage key of tpmtest.Keys20.
const persistentRSA = 0x81000001

// rsaKeys are made once for all tests.
var rsaKeys = map[int]*rsa.PrivateKey{}

func softwareRSA(t testing.TB, bits int) *rsa.PrivateKey {
	t.Helper()
	if rsaKeys[bits] == nil {
		key, err := rsa.GenerateKey(rand.Reader, bits)
		if err != nil {
			t.Fatal(err)
		}
		rsaKeys[bits] = key
	}
	return rsaKeys[bits]
}

func softwareECC(t testing.TB, curve elliptic.Curve) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// A patient sends a command again that the TPM could not start yet, as with the first
// signature of an RSA key (TPM_RC_RETRY).
type patient struct{ transport.TPM }

func (p patient) Send(cmd []byte) ([]byte, error) {
	for {
		rsp, err := p.TPM.Send(cmd)
		if err != nil || len(rsp) < 10 || !bytes.Equal(rsp[6:10], []byte{0, 0, 9, 0x22}) {
			return rsp, err
		}
	}
}

// startTPM starts a TPM 2.0 that owns the keys of the fixtures.
func startTPM(t *testing.T) transport.TPM {
	t.Helper()
	tpm := tpmtest.Start(t, tpmtest.Keys20).Dial()
	t.Cleanup(func() { tpm.Close() })
	return patient{tpm}
}

// primaryECC makes the primary key of template H-2.
func primaryECC(t *testing.T, tpm transport.TPM) (tpm2.NamedHandle, *tpm2.TPMTPublic) {
	t.Helper()
	template := tpm2.ECCSRKTemplate
	template.Unique = tpm2.NewTPMUPublicID(tpm2.TPMAlgECC, &tpm2.TPMSECCPoint{})
	rsp, err := tpm2.CreatePrimary{PrimaryHandle: tpm2.TPMRHOwner, InPublic: tpm2.New2B(template)}.Execute(tpm)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tpm2.FlushContext{FlushHandle: rsp.ObjectHandle}.Execute(tpm) })
	area, err := rsp.OutPublic.Contents()
	if err != nil {
		t.Fatal(err)
	}
	return tpm2.NamedHandle{Handle: rsp.ObjectHandle, Name: rsp.Name}, area
}

func parentRSA(t *testing.T, tpm transport.TPM) (tpm2.NamedHandle, *tpm2.TPMTPublic) {
	t.Helper()
	rsp, err := tpm2.ReadPublic{ObjectHandle: tpm2.TPMHandle(persistentRSA)}.Execute(tpm)
	if err != nil {
		t.Fatal(err)
	}
	area, err := rsp.OutPublic.Contents()
	if err != nil {
		t.Fatal(err)
	}
	return tpm2.NamedHandle{Handle: persistentRSA, Name: rsp.Name}, area
}

// load imports and loads an importable key.
func load(t *testing.T, tpm transport.TPM, parent tpm2.NamedHandle, k *TSS2) tpm2.NamedHandle {
	t.Helper()
	auth := tpm2.AuthHandle{Handle: parent.Handle, Name: parent.Name, Auth: tpm2.PasswordAuth(nil)}
	public := tpm2.BytesAs2B[tpm2.TPMTPublic](k.Public[2:])
	imported, err := tpm2.Import{
		ParentHandle: auth,
		ObjectPublic: public,
		Duplicate:    tpm2.TPM2BPrivate{Buffer: k.Private[2:]},
		InSymSeed:    tpm2.TPM2BEncryptedSecret{Buffer: k.Secret[2:]},
		Symmetric:    tpm2.TPMTSymDef{Algorithm: tpm2.TPMAlgNull},
	}.Execute(tpm)
	if err != nil {
		t.Fatal(err)
	}
	loaded, err := tpm2.Load{ParentHandle: auth, InPrivate: imported.OutPrivate, InPublic: public}.Execute(tpm)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tpm2.FlushContext{FlushHandle: loaded.ObjectHandle}.Execute(tpm) })
	if name, err := k.Name(); err != nil || !bytes.Equal(name, loaded.Name.Buffer) {
		t.Errorf("name %x (error %v), and the TPM says %x", name, err, loaded.Name.Buffer)
	}
	return tpm2.NamedHandle{Handle: loaded.ObjectHandle, Name: loaded.Name}
}

// signAndVerify has the TPM sign with a loaded key.
func signAndVerify(t *testing.T, tpm transport.TPM, key tpm2.NamedHandle, session tpm2.Session, public crypto.PublicKey) {
	t.Helper()
	digest := sha256.Sum256([]byte("bonjour"))
	cmd := tpm2.Sign{
		KeyHandle:  tpm2.AuthHandle{Handle: key.Handle, Name: key.Name, Auth: session},
		Digest:     tpm2.TPM2BDigest{Buffer: digest[:]},
		InScheme:   tpm2.TPMTSigScheme{Scheme: tpm2.TPMAlgECDSA, Details: tpm2.NewTPMUSigScheme(tpm2.TPMAlgECDSA, &tpm2.TPMSSchemeHash{HashAlg: tpm2.TPMAlgSHA256})},
		Validation: tpm2.TPMTTKHashCheck{Tag: tpm2.TPMSTHashCheck},
	}
	if _, isRSA := public.(*rsa.PublicKey); isRSA {
		cmd.InScheme = tpm2.TPMTSigScheme{Scheme: tpm2.TPMAlgRSASSA, Details: tpm2.NewTPMUSigScheme(tpm2.TPMAlgRSASSA, &tpm2.TPMSSchemeHash{HashAlg: tpm2.TPMAlgSHA256})}
	}
	rsp, err := cmd.Execute(tpm)
	if err != nil {
		t.Fatal(err)
	}
	switch public := public.(type) {
	case *rsa.PublicKey:
		sig, err := rsp.Signature.Signature.RSASSA()
		if err != nil || rsa.VerifyPKCS1v15(public, crypto.SHA256, digest[:], sig.Sig.Buffer) != nil {
			t.Errorf("bad signature (error %v)", err)
		}
	case *ecdsa.PublicKey:
		sig, err := rsp.Signature.Signature.ECDSA()
		if err != nil || !ecdsa.Verify(public, digest[:], new(big.Int).SetBytes(sig.SignatureR.Buffer), new(big.Int).SetBytes(sig.SignatureS.Buffer)) {
			t.Errorf("bad signature (error %v)", err)
		}
	}
}

func TestWrapTSS2(t *testing.T) {
	tpm := startTPM(t)
	short := softwareECC(t, elliptic.P256())
	for short.X.BitLen() > 248 { // a coordinate with zeros in front
		short = softwareECC(t, elliptic.P256())
	}
	value, digest := authValuePolicy(t)
	for _, p := range []struct {
		name   string
		handle uint32
		find   func(*testing.T, transport.TPM) (tpm2.NamedHandle, *tpm2.TPMTPublic)
	}{{"RSA parent", persistentRSA, parentRSA}, {"ECC parent", handleOwner, primaryECC}} {
		for _, c := range []struct {
			name string
			priv crypto.Signer
			opts TSS2Wrap
		}{
			{"RSA 2048", softwareRSA(t, 2048), TSS2Wrap{}},
			{"RSA 2048 with a secret", softwareRSA(t, 2048), TSS2Wrap{Auth: []byte("motdepasse")}},
			{"P-256", softwareECC(t, elliptic.P256()), TSS2Wrap{}},
			{"P-256, short coordinate", short, TSS2Wrap{Auth: []byte("motdepasse"), NoDA: true, Description: "née courte"}},
			{"P-384", softwareECC(t, elliptic.P384()), TSS2Wrap{}},
			{"P-384 with a policy", softwareECC(t, elliptic.P384()), TSS2Wrap{Auth: []byte("motdepasse"), Policy: value, AuthPolicy: digest}},
		} {
			t.Run(p.name+"/"+c.name, func(t *testing.T) {
				parent, area := p.find(t, tpm)
				c.opts.Parent = p.handle
				k, err := WrapTSS2(nil, c.priv, tpm2.Marshal(area), c.opts)
				if err != nil {
					t.Fatal(err)
				}
				file, err := k.Marshal(TSS2PEM)
				if err != nil {
					t.Fatal(err)
				}
				if k, err = parseAs[*TSS2](file); err != nil {
					t.Fatal(err)
				}
				if k.Parent != p.handle || !k.Importable() || k.NeedsSecret() != (c.opts.Auth != nil) || k.Description != c.opts.Description {
					t.Errorf("parent %x, importable %v, needs a secret %v", k.Parent, k.Importable(), k.NeedsSecret())
				}
				public := k.PublicKey()
				if !public.(interface{ Equal(crypto.PublicKey) bool }).Equal(c.priv.Public()) || !k.CanSign() {
					t.Errorf("another public key, or one that cannot sign")
				}
				key := load(t, tpm, parent, k)
				session := tpm2.PasswordAuth(c.opts.Auth)
				if c.opts.Policy != nil {
					session = tpm2.Policy(tpm2.TPMAlgSHA256, 16, func(tpm transport.TPM, handle tpm2.TPMISHPolicy, _ tpm2.TPM2BNonce) error {
						_, err := tpm2.PolicyAuthValue{PolicySession: handle}.Execute(tpm)
						return err
					}, tpm2.Auth(c.opts.Auth))
				}
				signAndVerify(t, tpm, key, session, public)
			})
		}
	}
}

func TestWrapTSS2Refuses(t *testing.T) {
	storage := tpm2.RSASRKTemplate
	priv := softwareRSA(t, 2048)
	storage.Unique = tpm2.NewTPMUPublicID(tpm2.TPMAlgRSA, &tpm2.TPM2BPublicKeyRSA{Buffer: priv.N.Bytes()})
	parent := tpm2.Marshal(storage)
	signing, err := NewTSS2Template(TSS2Template{})
	if err != nil {
		t.Fatal(err)
	}
	ec, other := softwareECC(t, elliptic.P256()), softwareECC(t, elliptic.P256())
	mixed := &ecdsa.PrivateKey{PublicKey: other.PublicKey, D: ec.D}
	for _, c := range []struct {
		name   string
		priv   crypto.PrivateKey
		parent []byte
		opts   TSS2Wrap
		want   string
	}{
		{"no key", nil, parent, TSS2Wrap{}, "<nil>"},
		{"nil RSA key", (*rsa.PrivateKey)(nil), parent, TSS2Wrap{}, "no complete RSA"},
		{"nil ECC key", (*ecdsa.PrivateKey)(nil), parent, TSS2Wrap{}, "no complete ECDSA"},
		{"P-224", softwareECC(t, elliptic.P224()), parent, TSS2Wrap{}, "P-224"},
		{"parts of two keys", mixed, parent, TSS2Wrap{}, "do not belong together"},
		{"RSA 512", testKey(t, 512, 65537), parent, TSS2Wrap{}, "1024, 2048, 3072 or 4096"},
		{"no parent", priv, nil, TSS2Wrap{}, "no storage key"},
		{"a signing key as parent", priv, signing, TSS2Wrap{}, "no storage key"},
		{"a template as parent", priv, tpm2.Marshal(tpm2.ECCSRKTemplate), TSS2Wrap{}, "not a point of the curve"},
		{"a handle that is no parent's", priv, parent, TSS2Wrap{Parent: 0x80000000}, "0x80000000"},
		{"a long secret", priv, parent, TSS2Wrap{Auth: make([]byte, 33)}, "33 bytes"},
		{"a policy without its digest", priv, parent, TSS2Wrap{Policy: []PolicyCommand{{Code: uint32(tpm2.TPMCCPolicySigned)}}}, "go together"},
		{"a digest without its policy", priv, parent, TSS2Wrap{AuthPolicy: ones(32)}, "go together"},
		{"a short digest", priv, parent, TSS2Wrap{Policy: []PolicyCommand{{Code: uint32(tpm2.TPMCCPolicySigned)}}, AuthPolicy: ones(20)}, "20 bytes"},
	} {
		if _, err := WrapTSS2(nil, c.priv, c.parent, c.opts); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}
