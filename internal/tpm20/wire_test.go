package tpm20_test

import (
	"bytes"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"testing"

	"github.com/google/go-tpm/tpm2"

	"maclef/internal/tpm20"
	"maclef/internal/tpmtest"
)

// wantHidden checks that the recorded messages contain none of the secrets.
func wantHidden(t testing.TB, tap *tpmtest.Tap, secrets map[string][]byte) {
	t.Helper()
	for _, e := range tap.Exchanges() {
		for name, secret := range secrets {
			if bytes.Contains(e.Command, secret) || bytes.Contains(e.Response, secret) {
				t.Errorf("the %s crossed in command %#x", name, e.Ordinal)
			}
		}
	}
}

// A password, and what is decrypted, agreed on or unsealed by it, never cross in
// clear; by a password authorization they do, which shows that this would be seen.
func TestNothingSecretCrosses(t *testing.T) {
	t.Parallel()
	tpmtest.Long(t, tpmtest.Slow20)
	password := []byte("a password that nobody shall see")
	plain := []byte("a plain text that nobody shall see")
	for _, rsaParent := range []bool{false, true} {
		conn, tap := open(t)
		parent := primary(t, conn, rsaParent)
		hiding := session(t, conn, parent)
		var bound *tpm20.Session
		for _, how := range []string{"one session", "two sessions", "in clear"} {
			secrets := map[string][]byte{"password": password, "plain text": plain}
			auth := func(key *tpm20.Object, enc tpm20.Encrypt) (tpm2.Session, []tpm2.Session) {
				switch how {
				case "one session":
					return hiding.For(password, enc), nil
				case "in clear":
					return tpm2.PasswordAuth(password), nil
				}
				bound.Close()
				bound = mustStart(conn.StartHMAC(parent, key, password))
				return bound.For(nil, 0), []tpm2.Session{hiding.For(nil, enc)}
			}
			tap.Reset()
			useRSA(t, conn, parent, string(password), plain, auth)
			secrets["shared secret"] = useECC(t, conn, parent, string(password), auth)
			unseal(t, conn, parent, string(password), plain, auth)
			if how != "in clear" {
				wantHidden(t, tap, secrets)
				continue
			}
			for name, secret := range secrets {
				seen := false
				for _, e := range tap.Exchanges() {
					seen = seen || bytes.Contains(e.Command, secret) || bytes.Contains(e.Response, secret)
				}
				if !seen {
					t.Errorf("the %s would not be seen", name)
				}
			}
		}
	}
}

// An authorizer makes a command's sessions.
type authorizer func(*tpm20.Object, tpm20.Encrypt) (tpm2.Session, []tpm2.Session)

func useRSA(t *testing.T, conn *tpm20.Conn, parent *tpm20.Object, password string, plain []byte, auth authorizer) {
	t.Helper()
	key := create(t, conn, parent, rsaKey, password)
	defer conn.Flush(key.Handle)
	pub, err := tpm2.Pub(*key.Public)
	if err != nil {
		t.Fatal(err)
	}
	ciphertext, err := rsa.EncryptOAEP(sha256.New(), rand.Reader, pub.(*rsa.PublicKey), plain, nil)
	if err != nil {
		t.Fatal(err)
	}
	scheme := tpm2.TPMTRSADecrypt{Scheme: tpm2.TPMAlgOAEP, Details: tpm2.NewTPMUAsymScheme(
		tpm2.TPMAlgOAEP, &tpm2.TPMSEncSchemeOAEP{HashAlg: tpm2.TPMAlgSHA256})}
	s, extra := auth(key, tpm20.EncryptOut)
	got, err := conn.RSADecrypt(key, s, ciphertext, scheme, extra...)
	if err != nil || !bytes.Equal(got, plain) {
		t.Errorf("%q, %v", got, err)
	}
}

func useECC(t *testing.T, conn *tpm20.Conn, parent *tpm20.Object, password string, auth authorizer) (shared []byte) {
	t.Helper()
	key := create(t, conn, parent, eccKey, password)
	defer conn.Flush(key.Handle)
	s, _ := auth(key, 0)
	sig, err := conn.Sign(key, s, ecdsaSHA256, message[:], nil)
	if err != nil {
		t.Fatal(err)
	}
	verify(t, key, message[:], sig)
	own, err := ecdh.P256().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	pub, _ := tpm2.Pub(*key.Public)
	remote, err := pub.(*ecdsa.PublicKey).ECDH()
	if err != nil {
		t.Fatal(err)
	}
	want, _ := own.ECDH(remote)
	s, extra := auth(key, tpm20.EncryptOut)
	got, err := conn.ECDHZGen(key, s, own.PublicKey().Bytes(), extra...)
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("%x, want %x: %v", got, want, err)
	}
	return got
}

func unseal(t *testing.T, conn *tpm20.Conn, parent *tpm20.Object, password string, plain []byte, auth authorizer) {
	t.Helper()
	template := tpm2.TPMTPublic{
		Type: tpm2.TPMAlgKeyedHash, NameAlg: tpm2.TPMAlgSHA256,
		ObjectAttributes: tpm2.TPMAObject{FixedTPM: true, FixedParent: true, UserWithAuth: true},
	}
	private, public := createBlobs(t, conn, parent, template, password, plain)
	o, err := conn.Load(parent, nil, private, public)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Flush(o.Handle)
	s, extra := auth(o, tpm20.EncryptOut)
	got, err := conn.Unseal(o, s, extra...)
	if err != nil || !bytes.Equal(got, plain) {
		t.Errorf("%q, %v", got, err)
	}
}
