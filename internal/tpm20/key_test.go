package tpm20_test

import (
	"bytes"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"math/big"
	"testing"

	"github.com/google/go-tpm/tpm2"

	"maclef/internal/tpm20"
)

func verify(t testing.TB, key *tpm20.Object, digest []byte, s *tpm2.TPMTSignature) {
	t.Helper()
	pub, err := tpm2.Pub(*key.Public)
	if err != nil {
		t.Fatal(err)
	}
	sig, err := s.Signature.ECDSA()
	if err != nil {
		t.Fatal(err)
	}
	if !ecdsa.Verify(pub.(*ecdsa.PublicKey), digest, new(big.Int).SetBytes(sig.SignatureR.Buffer), new(big.Int).SetBytes(sig.SignatureS.Buffer)) {
		t.Error("a wrong signature")
	}
}

var message = sha256.Sum256([]byte("what is signed"))

func TestSign(t *testing.T) {
	t.Parallel()
	conn, _ := open(t)
	parent := primary(t, conn, false)
	for _, secret := range []string{"", "a secret", "zeros after\x00\x00", "zero \x00 inside", "\x00\x00"} {
		key := create(t, conn, parent, eccKey, secret)
		auths := map[string]func() tpm2.Session{
			"password": func() tpm2.Session { return tpm2.PasswordAuth([]byte(secret)) },
			"unsalted": func() tpm2.Session { return mustStart(conn.StartHMAC(nil, nil, nil)).For([]byte(secret), 0) },
			"salted":   func() tpm2.Session { return mustStart(conn.StartHMAC(parent, nil, nil)).For([]byte(secret), 0) },
			"encrypting": func() tpm2.Session {
				return mustStart(conn.StartHMAC(parent, nil, nil)).For([]byte(secret), tpm20.EncryptIn)
			},
			"bound": func() tpm2.Session { return mustStart(conn.StartHMAC(nil, key, []byte(secret))).For(nil, 0) },
			"salted and bound": func() tpm2.Session {
				return mustStart(conn.StartHMAC(parent, key, []byte(secret))).For(nil, 0)
			},
			"bound to another": func() tpm2.Session {
				return mustStart(conn.StartHMAC(nil, tpm20.Hierarchy(tpm2.TPMRHOwner), nil)).For([]byte(secret), 0)
			},
			"policy, none": nil,
		}
		if secret == "" {
			auths["nothing"] = func() tpm2.Session { return nil }
		}
		for name, auth := range auths {
			if auth == nil {
				continue
			}
			a := auth()
			for range 3 {
				sig, err := conn.Sign(key, a, ecdsaSHA256, message[:], nil)
				if err != nil {
					t.Errorf("%q, %s: %v", secret, name, err)
					break
				}
				verify(t, key, message[:], sig)
			}
			rsp, err := tpm20.Run(conn, tpm2.Sign{
				KeyHandle: key.Auth(a), Digest: tpm2.TPM2BDigest{Buffer: message[:]}, InScheme: ecdsaSHA256,
				Validation: tpm2.TPMTTKHashCheck{Tag: tpm2.TPMSTHashCheck},
			})
			if err != nil {
				t.Errorf("%q, %s: %v", secret, name, err)
			} else {
				verify(t, key, message[:], &rsp.Signature)
			}
			conn.EndSessions()
		}
		if err := conn.Flush(key.Handle); err != nil {
			t.Fatal(err)
		}
	}
}

func mustStart(s *tpm20.Session, err error) *tpm20.Session {
	if err != nil {
		panic(err)
	}
	return s
}

func TestRSADecrypt(t *testing.T) {
	t.Parallel()
	conn, _ := open(t)
	parent := primary(t, conn, true)
	key := create(t, conn, parent, rsaKey, "pw")
	pub, err := tpm2.Pub(*key.Public)
	if err != nil {
		t.Fatal(err)
	}
	plain := []byte("the plain text")
	ciphertext, err := rsa.EncryptPKCS1v15(rand.Reader, pub.(*rsa.PublicKey), plain)
	if err != nil {
		t.Fatal(err)
	}
	s, bound := session(t, conn, parent), mustStart(conn.StartHMAC(parent, key, []byte("pw")))
	es := tpm2.TPMTRSADecrypt{Scheme: tpm2.TPMAlgRSAES, Details: tpm2.NewTPMUAsymScheme(tpm2.TPMAlgRSAES, &tpm2.TPMSEncSchemeRSAES{})}
	for name, c := range map[string]struct {
		auth  tpm2.Session
		extra []tpm2.Session
	}{
		"one":           {auth: s.For([]byte("pw"), tpm20.EncryptOut)},
		"both ways":     {auth: s.For([]byte("pw"), tpm20.EncryptOut|tpm20.EncryptIn)},
		"bound":         {auth: bound.For([]byte("pw"), tpm20.EncryptOut)},
		"two":           {auth: bound.For(nil, 0), extra: []tpm2.Session{s.For(nil, tpm20.EncryptOut)}},
		"two both ways": {auth: bound.For(nil, 0), extra: []tpm2.Session{s.For(nil, tpm20.EncryptOut|tpm20.EncryptIn)}},
		"three": {auth: bound.For(nil, 0), extra: []tpm2.Session{
			s.For(nil, tpm20.EncryptOut), session(t, conn, parent).For(nil, tpm20.EncryptIn)}},
		"password": {auth: tpm2.PasswordAuth([]byte("pw")), extra: []tpm2.Session{s.For(nil, tpm20.EncryptOut)}},
	} {
		for range 2 {
			got, err := conn.RSADecrypt(key, c.auth, ciphertext, es, c.extra...)
			if err != nil || string(got) != string(plain) {
				t.Errorf("%s: %q, %v", name, got, err)
			}
			rsp, err := tpm20.Run(conn, tpm2.RSADecrypt{
				KeyHandle: key.Auth(c.auth), CipherText: tpm2.TPM2BPublicKeyRSA{Buffer: ciphertext}, InScheme: es}, c.extra...)
			if err != nil || string(rsp.Message.Buffer) != string(plain) {
				t.Errorf("%s: %v, %v", name, rsp, err)
			}
		}
	}
	// A ciphertext of somebody else's is refused, and the session goes on.
	if _, err := conn.RSADecrypt(key, s.For([]byte("pw"), tpm20.EncryptOut), bytes.Repeat([]byte{0xff}, 256), es); !isRefused(err) || !s.Alive() {
		t.Error(err)
	}
	if got, err := conn.RSADecrypt(key, s.For([]byte("pw"), tpm20.EncryptOut), ciphertext, es); err != nil || string(got) != string(plain) {
		t.Errorf("%q, %v", got, err)
	}
	if _, err := conn.RSADecrypt(key, bound.For(nil, tpm20.EncryptOut), ciphertext, es); err == nil || !bound.Alive() {
		t.Error("a bound session encrypted without the auth value")
	}
}

func TestECDHZGen(t *testing.T) {
	t.Parallel()
	conn, _ := open(t)
	parent := primary(t, conn, false)
	key := create(t, conn, parent, eccKey, "pw")
	pub, err := tpm2.Pub(*key.Public)
	if err != nil {
		t.Fatal(err)
	}
	remote, err := pub.(*ecdsa.PublicKey).ECDH()
	if err != nil {
		t.Fatal(err)
	}
	s := session(t, conn, parent)
	for range 600 { // some have a zero in front
		own, err := ecdh.P256().GenerateKey(rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		want, _ := own.ECDH(remote)
		got, err := conn.ECDHZGen(key, s.For([]byte("pw"), tpm20.EncryptOut), own.PublicKey().Bytes())
		if err != nil || string(got) != string(want) {
			t.Fatalf("%x, want %x: %v", got, want, err)
		}
	}
}
