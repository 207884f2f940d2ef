package chip20

import (
	"bytes"
	"crypto"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-tpm/tpm2"

	"maclef/blob"
	"maclef/internal/chip"
)

// A key with a scheme does exactly that, in the chip.
func TestDecrypt20Scheme(t *testing.T) {
	t.Parallel()
	k := &software20{rsa: softwareRSA()}
	aes := k.able(t, decrypts, keyScheme{alg: tpm2.TPMAlgRSAES})
	oaep := k.able(t, decrypts, keyScheme{tpm2.TPMAlgOAEP, tpm2.TPMAlgSHA256})
	long := bytes.Repeat([]byte("x"), 66)
	long[65] = 0
	for name, c := range map[string]struct {
		key    *keyOps
		opts   crypto.DecrypterOpts
		scheme tpm2.TPMAlgID
		label  string
	}{
		"RSAES":                   {aes, nil, tpm2.TPMAlgRSAES, ""},
		"RSAES, options":          {aes, &rsa.PKCS1v15DecryptOptions{}, tpm2.TPMAlgRSAES, ""},
		"RSAES, session key":      {aes, &rsa.PKCS1v15DecryptOptions{SessionKeyLen: 48}, tpm2.TPMAlgRSAES, ""},
		"OAEP":                    {oaep, nil, tpm2.TPMAlgOAEP, ""},
		"OAEP, options":           {oaep, &rsa.OAEPOptions{Hash: crypto.SHA256}, tpm2.TPMAlgOAEP, ""},
		"OAEP, both hashes":       {oaep, &rsa.OAEPOptions{Hash: crypto.SHA256, MGFHash: crypto.SHA256}, tpm2.TPMAlgOAEP, ""},
		"OAEP, label":             {oaep, &rsa.OAEPOptions{Hash: crypto.SHA256, Label: []byte("label\x00")}, tpm2.TPMAlgOAEP, "label\x00"},
		"OAEP, label of a zero":   {oaep, &rsa.OAEPOptions{Hash: crypto.SHA256, Label: []byte{0}}, tpm2.TPMAlgOAEP, "\x00"},
		"OAEP, the longest label": {oaep, &rsa.OAEPOptions{Hash: crypto.SHA256, Label: long}, tpm2.TPMAlgOAEP, string(long)},
	} {
		d, err := c.key.planDecrypt(make([]byte, 256), c.opts)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		o := d
		if o.scheme.Scheme != c.scheme || string(o.label) != c.label {
			t.Errorf("%s: %v, %q", name, o.scheme.Scheme, o.label)
		}
		tpm2.Marshal(o.scheme) // panics where it is wrong
		if plain, err := o.finish([]byte("bonjour")); err != nil || string(plain) != "bonjour" {
			t.Errorf("%s: %q, %v", name, plain, err)
		}
		if plain, err := o.finish(make([]byte, 246)); err == nil {
			t.Errorf("%s: %d bytes of plaintext", name, len(plain))
		}
	}
}

func TestDecrypt20Refuses(t *testing.T) {
	t.Parallel()
	r := &software20{rsa: softwareRSA()}
	small := (&software20{rsa: softwareRSA1024()}).able(t, decrypts, keyScheme{})
	e := (&software20{ecdsa: mustMake(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))}).able(t, signs|decrypts, keyScheme{})
	full := r.able(t, signs|decrypts, keyScheme{})
	aes := r.able(t, decrypts, keyScheme{alg: tpm2.TPMAlgRSAES})
	oaep := r.able(t, decrypts, keyScheme{tpm2.TPMAlgOAEP, tpm2.TPMAlgSHA256})
	signOnly := r.able(t, signs|decrypts, keyScheme{})
	signOnly.file.Policy = []blob.PolicyCommand{{Code: uint32(tpm2.TPMCCPolicyCommandCode), Policy: []byte{0, 0, 1, 0x5d}}}
	pkcs1, sha256 := &rsa.PKCS1v15DecryptOptions{}, &rsa.OAEPOptions{Hash: crypto.SHA256}
	label := func(s string) *rsa.OAEPOptions { return &rsa.OAEPOptions{Hash: crypto.SHA256, Label: []byte(s)} }
	for name, c := range map[string]struct {
		key   *keyOps
		size  int
		opts  crypto.DecrypterOpts
		words string // empty for chip.ErrDecryption
	}{
		"EC key":                       {e, 256, nil, "ECDH"},
		"signs only":                   {r.able(t, signs, keyScheme{}), 256, nil, "attribute decrypt"},
		"storage key":                  {r.able(t, decrypts|restricted, keyScheme{}), 256, nil, "restricted"},
		"policy for signPlan":          {signOnly, 256, nil, "policy"},
		"short":                        {full, 255, nil, ""},
		"long":                         {full, 257, nil, ""},
		"empty":                        {full, 0, nil, ""},
		"PKCS#1, nil pointer":          {full, 256, (*rsa.PKCS1v15DecryptOptions)(nil), "nil pointer"},
		"OAEP, nil pointer":            {full, 256, (*rsa.OAEPOptions)(nil), "nil pointer"},
		"foreign options":              {full, 256, "bonjour", "string"},
		"session key, negative":        {full, 256, &rsa.PKCS1v15DecryptOptions{SessionKeyLen: -1}, "-1"},
		"session key, too long":        {full, 256, &rsa.PKCS1v15DecryptOptions{SessionKeyLen: 246}, "246"},
		"OAEP without a hash":          {full, 256, &rsa.OAEPOptions{}, "OAEPOptions.Hash"},
		"OAEP, unknown hash":           {full, 256, &rsa.OAEPOptions{Hash: 99}, "99"},
		"OAEP, mask hash not linked":   {full, 256, &rsa.OAEPOptions{Hash: crypto.SHA256, MGFHash: crypto.BLAKE2b_256}, "import"},
		"OAEP, 1024 bits with SHA-512": {small, 128, &rsa.OAEPOptions{Hash: crypto.SHA512}, "1024-bit"},
		"RSAES key, OAEP":              {aes, 256, sha256, "RSAES"},
		"RSAES key, session key":       {aes, 256, &rsa.PKCS1v15DecryptOptions{SessionKeyLen: 300}, "300"},
		"OAEP key, PKCS#1":             {oaep, 256, pkcs1, "OAEP with SHA-256"},
		"OAEP key, other hash":         {oaep, 256, &rsa.OAEPOptions{Hash: crypto.SHA1}, "OAEP with SHA-256"},
		"OAEP key, other mask hash":    {oaep, 256, &rsa.OAEPOptions{Hash: crypto.SHA256, MGFHash: crypto.SHA1}, "OAEP with SHA-256"},
		"OAEP key, label without zero": {oaep, 256, label("label"), "zero byte"},
		"OAEP key, label with two":     {oaep, 256, label("la\x00bel\x00"), "zero byte"},
		"OAEP key, long label":         {oaep, 256, label(strings.Repeat("x", 66) + "\x00"), "66 bytes"},
		"RSASSA key":                   {r.able(t, signs|decrypts, keyScheme{tpm2.TPMAlgRSASSA, tpm2.TPMAlgSHA256}), 256, nil, "RSASSA"},
	} {
		d, err := c.key.planDecrypt(make([]byte, c.size), c.opts)
		if d != nil || c.words == "" && !errors.Is(err, chip.ErrDecryption) || c.words != "" && (!errors.Is(err, chip.ErrNotSupported) || !strings.Contains(err.Error(), c.words)) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := full.planDecrypt(bytes.Repeat([]byte{0xff}, 256), nil); err != chip.ErrDecryption {
		t.Error(err)
	}
}

func TestAgree20(t *testing.T) {
	t.Parallel()
	for _, curve := range []elliptic.Curve{elliptic.P256(), elliptic.P384(), elliptic.P521()} {
		k := &software20{ecdsa: mustMake(ecdsa.GenerateKey(curve, rand.Reader))}
		remote := mustMake(mustMake(ecdsa.GenerateKey(curve, rand.Reader)).PublicKey.ECDH())
		for _, able := range []*keyOps{k.able(t, signs|decrypts, keyScheme{}), k.able(t, decrypts, keyScheme{tpm2.TPMAlgECDH, tpm2.TPMAlgSHA256})} {
			point, err := able.checkAgree(remote)
			if err != nil || !bytes.Equal(point, remote.Bytes()) {
				t.Errorf("%v: %x, %v", curve.Params().Name, point, err)
			}
		}
	}
	k := &software20{ecdsa: mustMake(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))}
	own := mustMake(k.ecdsa.PublicKey.ECDH())
	full := k.able(t, decrypts, keyScheme{})
	for name, c := range map[string]struct {
		key    *keyOps
		remote *ecdh.PublicKey
		words  string
	}{
		"RSA":           {(&software20{rsa: softwareRSA()}).able(t, decrypts, keyScheme{}), own, "RSA"},
		"signs only":    {k.able(t, signs, keyScheme{}), own, "attribute decrypt"},
		"storage key":   {k.able(t, decrypts|restricted, keyScheme{}), own, "restricted"},
		"ECDSA key":     {k.able(t, signs|decrypts, keyScheme{tpm2.TPMAlgECDSA, tpm2.TPMAlgSHA256}), own, "ECDSA"},
		"nil":           {full, nil, "nil pointer"},
		"another curve": {full, mustMake(ecdh.P384().GenerateKey(rand.Reader)).PublicKey(), "P-384"},
		"X25519":        {full, mustMake(ecdh.X25519().GenerateKey(rand.Reader)).PublicKey(), "X25519"},
	} {
		if point, err := c.key.checkAgree(c.remote); point != nil || !errors.Is(err, chip.ErrNotSupported) || !strings.Contains(err.Error(), c.words) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Decrypt with nil options decrypts what EncryptionOf encrypts.
func TestEncrypt20(t *testing.T) {
	t.Parallel()
	k := &software20{rsa: softwareRSA()}
	for name, c := range map[string]struct {
		scheme keyScheme
		room   int
		open   func(c []byte) ([]byte, error)
	}{
		"no scheme": {keyScheme{alg: tpm2.TPMAlgNull}, 245, func(c []byte) ([]byte, error) { return rsa.DecryptPKCS1v15(nil, k.rsa, c) }},
		"RSAES":     {keyScheme{alg: tpm2.TPMAlgRSAES}, 245, func(c []byte) ([]byte, error) { return rsa.DecryptPKCS1v15(nil, k.rsa, c) }},
		"OAEP SHA-1": {keyScheme{tpm2.TPMAlgOAEP, tpm2.TPMAlgSHA1}, 214, func(c []byte) ([]byte, error) {
			return rsa.DecryptOAEP(crypto.SHA1.New(), nil, k.rsa, c, nil)
		}},
		"OAEP SHA-256": {keyScheme{tpm2.TPMAlgOAEP, tpm2.TPMAlgSHA256}, 190, func(c []byte) ([]byte, error) {
			return rsa.DecryptOAEP(crypto.SHA256.New(), nil, k.rsa, c, nil)
		}},
	} {
		file := k.file(t, decrypts, c.scheme)
		e, err := EncryptionOf(file)
		if err != nil {
			t.Fatal(err)
		}
		if room := e.MaxMessage(file.PublicKey().(*rsa.PublicKey)); room != c.room {
			t.Errorf("%s: %d bytes", name, room)
		}
		for _, n := range []int{0, 7, c.room} {
			message := make([]byte, n)
			rand.Read(message)
			ciphertext, err := e.Encrypt(file.PublicKey().(*rsa.PublicKey), message)
			if err != nil {
				t.Fatal(err)
			}
			if got, err := c.open(ciphertext); err != nil || !bytes.Equal(got, message) {
				t.Errorf("%s, %d bytes: %x, %v", name, n, got, err)
			}
		}
		if _, err := e.Encrypt(file.PublicKey().(*rsa.PublicKey), make([]byte, c.room+1)); !errors.Is(err, rsa.ErrMessageTooLong) {
			t.Errorf("%s: %v", name, err)
		}
	}
	null := keyScheme{alg: tpm2.TPMAlgNull}
	for name, file := range map[string]*blob.TSS2{
		"EC":          (&software20{ecdsa: mustMake(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))}).file(t, signs|decrypts, null),
		"signs only":  k.file(t, signs, null),
		"storage key": k.file(t, decrypts|restricted, null),
	} {
		if _, err := EncryptionOf(file); !errors.Is(err, chip.ErrNotSupported) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
