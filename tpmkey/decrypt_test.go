package tpmkey_test

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"errors"
	"testing"

	"maclef/blob"
	"maclef/internal/tpmtest"
	"maclef/tpmkey"
)

func TestEncryptDecrypt(t *testing.T) {
	t.Parallel()
	tpmtest.Long(t, tpmtest.Slow12)
	tpm := openTutorial(t)
	for _, name := range []string{"maclef", "oaep", "oaep-sha1", "sha1", "rsa1024", "auth", "wrapped"} {
		k := loadFixture(t, tpm, name)
		room := tpmkey.MaxMessage(k.File())
		for _, n := range []int{0, 1, 7, room} {
			message := make([]byte, n)
			rand.Read(message)
			ciphertext, err := tpmkey.Encrypt(k.File(), message)
			if err != nil {
				t.Errorf("%s, %d bytes: %v", name, n, err)
				continue
			}
			got, err := k.Decrypt(nil, ciphertext, nil)
			if err != nil || !bytes.Equal(got, message) {
				t.Errorf("%s, %d bytes: %x, %v", name, n, got, err)
			}
		}
		if _, err := tpmkey.Encrypt(k.File(), make([]byte, room+1)); err == nil {
			t.Errorf("%s: encrypted %d bytes", name, room+1)
		}
	}
	_, err := tpmkey.Encrypt(parseFixture(t, "rsa512"), []byte("x"))
	tpmtest.WantError(t, err, tpmkey.ErrNotSupported, "512", "1024")
	signing, err := blob.Parse(tpmtest.Fixture(t, "tpm12-wellknown/stpm.key"))
	if err != nil {
		t.Fatal(err)
	}
	_, err = tpmkey.Encrypt(signing, nil)
	tpmtest.WantError(t, err, tpmkey.ErrNotSupported, "cannot decrypt")
}

func TestDecryptOptions(t *testing.T) {
	tpmtest.Long(t, tpmtest.Stress)
	t.Parallel()
	tpm := openTutorial(t)
	pkcs1, oaep := loadFixture(t, tpm, "maclef"), loadFixture(t, tpm, "oaep")
	bound := tpmtest.Fixture(t, "tpm12-tutorial/maclef.bound")
	boundOAEP := tpmtest.Fixture(t, "tpm12-tutorial/oaep.tspi-bound")
	tcpa := []byte("TCPA")
	for name, c := range map[string]struct {
		key        *tpmkey.Key
		ciphertext []byte
		opts       crypto.DecrypterOpts
		ok         bool
	}{
		"PKCS#1":                    {pkcs1, bound, &rsa.PKCS1v15DecryptOptions{}, true},
		"OAEP":                      {oaep, boundOAEP, &rsa.OAEPOptions{Hash: crypto.SHA1, Label: tcpa}, true},
		"OAEP, MGF named":           {oaep, boundOAEP, &rsa.OAEPOptions{Hash: crypto.SHA1, MGFHash: crypto.SHA1, Label: tcpa}, true},
		"OAEP without label":        {oaep, boundOAEP, &rsa.OAEPOptions{Hash: crypto.SHA1}, false},
		"OAEP with SHA-256":         {oaep, boundOAEP, &rsa.OAEPOptions{Hash: crypto.SHA256, Label: tcpa}, false},
		"OAEP with another MGF":     {oaep, boundOAEP, &rsa.OAEPOptions{Hash: crypto.SHA1, MGFHash: crypto.SHA256, Label: tcpa}, false},
		"OAEP of a PKCS#1 key":      {pkcs1, bound, &rsa.OAEPOptions{Hash: crypto.SHA1, Label: tcpa}, false},
		"PKCS#1 of an OAEP key":     {oaep, boundOAEP, &rsa.PKCS1v15DecryptOptions{}, false},
		"session key, OAEP key":     {oaep, boundOAEP, &rsa.PKCS1v15DecryptOptions{SessionKeyLen: 7}, false},
		"negative session key":      {pkcs1, bound, &rsa.PKCS1v15DecryptOptions{SessionKeyLen: -1}, false},
		"unknown options":           {pkcs1, bound, crypto.SHA256, false},
		"nil OAEP pointer":          {oaep, boundOAEP, (*rsa.OAEPOptions)(nil), false},
		"nil PKCS#1 pointer, OAEP":  {oaep, boundOAEP, (*rsa.PKCS1v15DecryptOptions)(nil), false},
		"nil PKCS#1 pointer":        {pkcs1, bound, (*rsa.PKCS1v15DecryptOptions)(nil), false},
		"short ciphertext":          {pkcs1, bound[1:], nil, false},
		"long ciphertext":           {pkcs1, append([]byte{0}, bound...), nil, false},
		"ciphertext of another key": {pkcs1, tpmtest.Fixture(t, "tpm12-tutorial/auth.bound"), nil, false},
	} {
		got, err := c.key.Decrypt(nil, c.ciphertext, c.opts)
		if name == "ciphertext of another key" && tpmtest.ImplicitRejection() {
			continue
		}
		if c.ok != (err == nil) || c.ok && string(got) != "bonjour" || !c.ok && got != nil {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
}

// A plaintext that is wrong in any way gives random bytes and no error, as
// crypto/rsa.DecryptPKCS1v15SessionKey does.
func TestSessionKey(t *testing.T) {
	t.Parallel()
	tpmtest.Long(t, tpmtest.Slow12)
	tpm := openTutorial(t)
	k := loadFixture(t, tpm, "maclef")
	random := bytes.Repeat([]byte{0x5a}, 48)
	opts := &rsa.PKCS1v15DecryptOptions{SessionKeyLen: 48}
	want := make([]byte, 48)
	rand.Read(want)
	encrypt := func(message []byte) []byte {
		c, err := tpmkey.Encrypt(k.File(), message)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	garbage := make([]byte, 256)
	garbage[255] = 2
	for name, c := range map[string]struct{ ciphertext, want []byte }{
		"right":         {encrypt(want), want},
		"too short":     {encrypt(want[1:]), random},
		"too long":      {encrypt(append(want, 1)), random},
		"empty":         {encrypt(nil), random},
		"no padding":    {garbage, random},
		"above modulus": {bytes.Repeat([]byte{0xff}, 256), random},
	} {
		got, err := k.Decrypt(bytes.NewReader(random), c.ciphertext, opts)
		if err != nil || !bytes.Equal(got, c.want) {
			t.Errorf("%s: %x, %v", name, got, err)
		}
	}
	if _, err := k.Decrypt(bytes.NewReader(random), garbage[:255], opts); err == nil {
		t.Error("a ciphertext of the wrong length gave a session key")
	}
	if got, err := k.Decrypt(nil, garbage, opts); err != nil || len(got) != 48 {
		t.Errorf("nil random: %x, %v", got, err)
	}
	if _, err := k.Decrypt(bytes.NewReader(random[1:]), garbage, opts); err == nil {
		t.Error("too little randomness gave a session key")
	}
}

// OAEP of the bare message, which is what other programs would make, does not
// decrypt on a TPM 1.2; the error is the same as for garbage.
func TestOAEPWithoutBoundData(t *testing.T) {
	t.Parallel()
	tpmtest.Long(t, tpmtest.Slow12)
	tpm := openTutorial(t)
	k := loadFixture(t, tpm, "oaep")
	for _, label := range []string{"TCPA", ""} {
		c, err := rsa.EncryptOAEP(sha1.New(), rand.Reader, k.Public().(*rsa.PublicKey), []byte("bonjour"), []byte(label))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := k.Decrypt(nil, c, nil); err == nil || errors.Is(err, tpmkey.ErrNotSupported) {
			t.Errorf("label %q: %q, %v", label, got, err)
		}
	}
}
