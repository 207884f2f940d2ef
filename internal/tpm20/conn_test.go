package tpm20_test

import (
	"testing"
	"time"

	"github.com/google/go-tpm/tpm2"

	"maclef/internal/tpm20"
	"maclef/internal/tpmtest"
	"maclef/internal/transport"
)

// open connects to a new TPM 2.0 and taps the connection.
func open(t testing.TB) (*tpm20.Conn, *tpmtest.Tap) {
	t.Helper()
	conn, tap, _ := start(t)
	return conn, tap
}

func start(t testing.TB) (*tpm20.Conn, *tpmtest.Tap, *tpmtest.SWTPM) {
	t.Helper()
	sw := tpmtest.Start(t, tpmtest.TPM20)
	tap := dial(t, sw)
	return tpm20.New(tap), tap, sw
}

func dial(t testing.TB, sw *tpmtest.SWTPM) *tpmtest.Tap {
	t.Helper()
	dev, err := transport.Open(sw.Socket, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	tap := tpmtest.NewTap(dev)
	t.Cleanup(func() { tap.Close() })
	return tap
}

// storage is the template of a parent: P-256, as files mean it, or RSA 2048.
func storage(rsa bool) tpm2.TPMTPublic {
	t := tpm2.ECCSRKTemplate
	if rsa {
		t = tpm2.RSASRKTemplate
		t.Unique = tpm2.NewTPMUPublicID(tpm2.TPMAlgRSA, &tpm2.TPM2BPublicKeyRSA{})
		return t
	}
	t.Unique = tpm2.NewTPMUPublicID(tpm2.TPMAlgECC, &tpm2.TPMSECCPoint{})
	return t
}

func primary(t testing.TB, conn *tpm20.Conn, rsa bool) *tpm20.Object {
	t.Helper()
	parent, err := conn.CreatePrimary(tpm2.TPMRHOwner, nil, storage(rsa))
	if err != nil {
		t.Fatal(err)
	}
	return parent
}

// Kinds of keys.
var (
	attributes = tpm2.TPMAObject{FixedTPM: true, FixedParent: true, SensitiveDataOrigin: true, UserWithAuth: true}
	eccKey     = tpm2.TPMTPublic{
		Type: tpm2.TPMAlgECC, NameAlg: tpm2.TPMAlgSHA256,
		ObjectAttributes: with(tpm2.TPMAObject{SignEncrypt: true, Decrypt: true}),
		Parameters: tpm2.NewTPMUPublicParms(tpm2.TPMAlgECC, &tpm2.TPMSECCParms{
			CurveID: tpm2.TPMECCNistP256,
		}),
	}
	rsaKey = tpm2.TPMTPublic{
		Type: tpm2.TPMAlgRSA, NameAlg: tpm2.TPMAlgSHA256,
		ObjectAttributes: with(tpm2.TPMAObject{SignEncrypt: true, Decrypt: true}),
		Parameters:       tpm2.NewTPMUPublicParms(tpm2.TPMAlgRSA, &tpm2.TPMSRSAParms{KeyBits: 2048}),
	}
)

func with(a tpm2.TPMAObject) tpm2.TPMAObject {
	b := attributes
	b.SignEncrypt, b.Decrypt = a.SignEncrypt, a.Decrypt
	return b
}

// create makes a key with a secret, which crosses encrypted, and loads it.
func create(t testing.TB, conn *tpm20.Conn, parent *tpm20.Object, template tpm2.TPMTPublic, secret string) *tpm20.Object {
	t.Helper()
	private, public := createBlobs(t, conn, parent, template, secret, nil)
	o, err := conn.Load(parent, nil, private, public)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

func createBlobs(t testing.TB, conn *tpm20.Conn, parent *tpm20.Object, template tpm2.TPMTPublic, secret string, data []byte) (private, public []byte) {
	t.Helper()
	s := session(t, conn, parent)
	defer s.Close()
	sensitive := tpm2.TPMSSensitiveCreate{UserAuth: tpm2.TPM2BAuth{Buffer: []byte(secret)}}
	if data != nil {
		sensitive.Data = tpm2.NewTPMUSensitiveCreate(&tpm2.TPM2BSensitiveData{Buffer: data})
	}
	rsp, err := tpm20.Run(conn, tpm2.Create{
		ParentHandle: parent.Auth(s.For(nil, tpm20.EncryptIn)),
		InSensitive:  tpm2.TPM2BSensitiveCreate{Sensitive: &sensitive},
		InPublic:     tpm2.New2B(template),
	})
	if err != nil {
		t.Fatal(err)
	}
	return tpm2.Marshal(rsp.OutPrivate), tpm2.Marshal(rsp.OutPublic)
}

// session is a salted one.
func session(t testing.TB, conn *tpm20.Conn, salt *tpm20.Object) *tpm20.Session {
	t.Helper()
	s, err := conn.StartHMAC(salt, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

var ecdsaSHA256 = tpm2.TPMTSigScheme{
	Scheme:  tpm2.TPMAlgECDSA,
	Details: tpm2.NewTPMUSigScheme(tpm2.TPMAlgECDSA, &tpm2.TPMSSchemeHash{HashAlg: tpm2.TPMAlgSHA256}),
}

// tpm2b is data behind its length.
func tpm2b(data []byte) []byte { return tpm2.Marshal(tpm2.TPM2BData{Buffer: data}) }
