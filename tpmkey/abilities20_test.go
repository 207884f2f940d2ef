package tpmkey_test

import (
	"bytes"
	"crypto"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"testing"

	"github.com/google/go-tpm/tpm2"

	"maclef/internal/tpmtest"
	"maclef/tpmkey"
)

// A kind20 is a kind of key that a TPM 2.0 can have.
type kind20 struct {
	sign, decrypt bool
	curve         tpm2.TPMECCCurve // 0 for RSA, 2048 bits
	scheme        tpm2.TPMAlgID    // 0 for none
	hash          tpm2.TPMAlgID
}

func (k kind20) area() *tpm2.TPMTPublic {
	area := &tpm2.TPMTPublic{
		Type: tpm2.TPMAlgRSA, NameAlg: tpm2.TPMAlgSHA256,
		ObjectAttributes: tpm2.TPMAObject{
			FixedTPM: true, FixedParent: true, SensitiveDataOrigin: true, UserWithAuth: true, NoDA: true,
			SignEncrypt: k.sign, Decrypt: k.decrypt,
		},
	}
	scheme, none := k.scheme, tpm2.TPMTSymDefObject{Algorithm: tpm2.TPMAlgNull}
	if scheme == 0 {
		scheme = tpm2.TPMAlgNull
	}
	if k.curve != 0 {
		area.Type = tpm2.TPMAlgECC
		area.Parameters = tpm2.NewTPMUPublicParms(tpm2.TPMAlgECC, &tpm2.TPMSECCParms{
			Symmetric: none, Scheme: tpm2.TPMTECCScheme{Scheme: scheme, Details: k.details()}, CurveID: k.curve,
		})
		area.Unique = tpm2.NewTPMUPublicID(tpm2.TPMAlgECC, &tpm2.TPMSECCPoint{})
		return area
	}
	area.Parameters = tpm2.NewTPMUPublicParms(tpm2.TPMAlgRSA, &tpm2.TPMSRSAParms{
		Symmetric: none, Scheme: tpm2.TPMTRSAScheme{Scheme: scheme, Details: k.details()}, KeyBits: 2048,
	})
	area.Unique = tpm2.NewTPMUPublicID(tpm2.TPMAlgRSA, &tpm2.TPM2BPublicKeyRSA{})
	return area
}

func (k kind20) details() tpm2.TPMUAsymScheme {
	switch k.scheme {
	case tpm2.TPMAlgRSASSA:
		return tpm2.NewTPMUAsymScheme(k.scheme, &tpm2.TPMSSigSchemeRSASSA{HashAlg: k.hash})
	case tpm2.TPMAlgRSAPSS:
		return tpm2.NewTPMUAsymScheme(k.scheme, &tpm2.TPMSSigSchemeRSAPSS{HashAlg: k.hash})
	case tpm2.TPMAlgRSAES:
		return tpm2.NewTPMUAsymScheme(k.scheme, &tpm2.TPMSEncSchemeRSAES{})
	case tpm2.TPMAlgOAEP:
		return tpm2.NewTPMUAsymScheme(k.scheme, &tpm2.TPMSEncSchemeOAEP{HashAlg: k.hash})
	case tpm2.TPMAlgECDSA:
		return tpm2.NewTPMUAsymScheme(k.scheme, &tpm2.TPMSSigSchemeECDSA{HashAlg: k.hash})
	}
	return tpm2.TPMUAsymScheme{}
}

// loadKind makes a key and loads it.
func loadKind(t *testing.T, tpm *tpmkey.TPM, kind kind20) *tpmkey.Key {
	t.Helper()
	file, err := tpm.CreateArea(kind.area())
	if err != nil {
		t.Fatal(err)
	}
	k, err := tpm.Load(file, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := k.Close(); err != nil {
			t.Error(err)
		}
	})
	return k
}

// hashes20 are those of most of crypto/rsa's signatures.
var hashes20 = []crypto.Hash{
	crypto.MD5, crypto.SHA1, crypto.SHA224, crypto.SHA256, crypto.SHA384, crypto.SHA512, crypto.SHA512_224, crypto.SHA512_256,
	crypto.SHA3_224, crypto.SHA3_256, crypto.SHA3_384, crypto.SHA3_512, crypto.MD5SHA1, crypto.RIPEMD160,
}

func randomBytes(n int) []byte {
	b := make([]byte, n)
	rand.Read(b)
	return b
}

// wantSignature is one that verifies, where the key can make it, else a refusal.
func wantSignature(t *testing.T, k *tpmkey.Key, digest []byte, opts crypto.SignerOpts, can bool) {
	t.Helper()
	sig, err := k.Sign(nil, digest, opts)
	if !can {
		if !errors.Is(err, tpmkey.ErrNotSupported) || sig != nil {
			t.Errorf("%+v: %x, %v", opts, sig, err)
		}
		return
	}
	if err == nil {
		err = verifies20(k.Public(), digest, opts, sig)
	}
	if err != nil {
		t.Errorf("%+v: %v", opts, err)
	}
}

func verifies20(public crypto.PublicKey, digest []byte, opts crypto.SignerOpts, sig []byte) error {
	switch p := public.(type) {
	case *ecdsa.PublicKey:
		if !ecdsa.VerifyASN1(p, digest, sig) {
			return errors.New("wrong signature")
		}
		return nil
	case *rsa.PublicKey:
		if pss, ok := opts.(*rsa.PSSOptions); ok {
			return rsa.VerifyPSS(p, pss.Hash, digest, sig, pss)
		}
		return rsa.VerifyPKCS1v15(p, opts.HashFunc(), digest, sig)
	}
	return fmt.Errorf("a %T", public)
}

// Each kind of RSA key signs what it can, and refuses the rest.
func TestSign20Kinds(t *testing.T) {
	tpm := openState(t, tpmtest.TPM20)
	const ssa, pss = tpm2.TPMAlgRSASSA, tpm2.TPMAlgRSAPSS
	for name, c := range map[string]struct {
		kind  kind20
		pkcs1 func(h crypto.Hash) bool
		pss   func(h crypto.Hash, salt int) bool
	}{
		"signs and decrypts": {kind20{sign: true, decrypt: true}, func(crypto.Hash) bool { return true }, func(crypto.Hash, int) bool { return true }},
		"decrypts":           {kind20{decrypt: true}, func(crypto.Hash) bool { return true }, func(crypto.Hash, int) bool { return true }},
		"signs": {kind20{sign: true}, func(h crypto.Hash) bool { return inSWTPM(h) },
			func(h crypto.Hash, salt int) bool { return inSWTPM(h) && (salt <= 0 || salt == h.Size()) }},
		"RSASSA": {kind20{sign: true, scheme: ssa, hash: tpm2.TPMAlgSHA256}, func(h crypto.Hash) bool { return h == crypto.SHA256 }, func(crypto.Hash, int) bool { return false }},
		"RSAPSS": {kind20{sign: true, scheme: pss, hash: tpm2.TPMAlgSHA384}, func(crypto.Hash) bool { return false },
			func(h crypto.Hash, salt int) bool { return h == crypto.SHA384 && (salt <= 0 || salt == 48) }},
	} {
		t.Run(name, func(t *testing.T) {
			k := loadKind(t, tpm, c.kind)
			for _, h := range hashes20 {
				digest := randomBytes(h.Size())
				wantSignature(t, k, digest, h, c.pkcs1(h))
				if h == crypto.MD5SHA1 {
					continue
				}
				for _, salt := range []int{rsa.PSSSaltLengthEqualsHash, rsa.PSSSaltLengthAuto, 1, 20, 48, 256 - 2 - h.Size()} {
					wantSignature(t, k, digest, &rsa.PSSOptions{SaltLength: salt, Hash: h}, c.pss(h, salt))
				}
			}
			for _, n := range []int{1, 36, 245} {
				wantSignature(t, k, randomBytes(n), crypto.Hash(0), c.kind.decrypt)
			}
		})
	}
}

// inSWTPM tells whether libtpms 0.9 has a hash.
func inSWTPM(h crypto.Hash) bool {
	return h == crypto.SHA1 || h == crypto.SHA256 || h == crypto.SHA384 || h == crypto.SHA512
}

// EC keys sign digests of any hash, and of none.
func TestSign20Curves(t *testing.T) {
	tpm := openState(t, tpmtest.TPM20)
	for name, c := range map[string]struct {
		kind kind20
		room int // for digests
	}{
		"P-256":            {kind20{sign: true, decrypt: true, curve: tpm2.TPMECCNistP256}, 1000},
		"P-384":            {kind20{sign: true, curve: tpm2.TPMECCNistP384}, 1000},
		"P-521":            {kind20{sign: true, curve: tpm2.TPMECCNistP521}, 64},
		"P-256 of SHA-512": {kind20{sign: true, curve: tpm2.TPMECCNistP256, scheme: tpm2.TPMAlgECDSA, hash: tpm2.TPMAlgSHA512}, 1000},
		"P-384 of SHA-256": {kind20{sign: true, curve: tpm2.TPMECCNistP384, scheme: tpm2.TPMAlgECDSA, hash: tpm2.TPMAlgSHA256}, 32},
		"P-521 of SHA-256": {kind20{sign: true, curve: tpm2.TPMECCNistP521, scheme: tpm2.TPMAlgECDSA, hash: tpm2.TPMAlgSHA256}, 32},
		"P-384 of SHA-512": {kind20{sign: true, curve: tpm2.TPMECCNistP384, scheme: tpm2.TPMAlgECDSA, hash: tpm2.TPMAlgSHA512}, 1000},
	} {
		t.Run(name, func(t *testing.T) {
			k := loadKind(t, tpm, c.kind)
			for _, h := range append([]crypto.Hash{crypto.BLAKE2b_512}, hashes20...) {
				wantSignature(t, k, randomBytes(h.Size()), h, h.Size() <= c.room)
				wantSignature(t, k, make([]byte, h.Size()), h, h.Size() <= c.room) // zero
			}
			for _, n := range []int{1, 31, 33, 47, 49, 63, 65, 66, 67, 100, 1000} {
				wantSignature(t, k, randomBytes(n), crypto.Hash(0), n <= c.room)
				wantSignature(t, k, bytes.Repeat([]byte{0xff}, n), crypto.Hash(0), n <= c.room) // above the order
			}
		})
	}
}

// Each kind of RSA key decrypts what it can, and refuses the rest.
func TestDecrypt20Kinds(t *testing.T) {
	tpm := openState(t, tpmtest.TPM20)
	pkcs1 := &rsa.PKCS1v15DecryptOptions{}
	oaep := func(label string) *rsa.OAEPOptions {
		return &rsa.OAEPOptions{Hash: crypto.SHA256, Label: []byte(label)}
	}
	for name, c := range map[string]struct {
		kind   kind20
		pkcs1  bool
		labels map[string]bool
	}{
		"no scheme": {kind20{decrypt: true}, true, map[string]bool{"": true, "label": true, "label\x00": true, "\x00a\x00b": true}},
		"RSAES":     {kind20{decrypt: true, scheme: tpm2.TPMAlgRSAES}, true, map[string]bool{"": false}},
		"OAEP": {kind20{decrypt: true, scheme: tpm2.TPMAlgOAEP, hash: tpm2.TPMAlgSHA256}, false,
			map[string]bool{"": true, "label": false, "label\x00": true, "\x00": true, "a\x00b\x00": false}},
	} {
		t.Run(name, func(t *testing.T) {
			k := loadKind(t, tpm, c.kind)
			public := k.Public().(*rsa.PublicKey)
			own, err := tpmkey.Encrypt(k.File(), []byte("bonjour"))
			if err != nil {
				t.Fatal(err)
			}
			if plain, err := k.Decrypt(nil, own, nil); err != nil || string(plain) != "bonjour" {
				t.Errorf("Encrypt's: %q, %v", plain, err)
			}
			ciphertext, err := rsa.EncryptPKCS1v15(rand.Reader, public, []byte("bonjour"))
			if err != nil {
				t.Fatal(err)
			}
			wantPlain(t, k, ciphertext, pkcs1, c.pkcs1)
			wantPlain(t, k, ciphertext, &rsa.PKCS1v15DecryptOptions{SessionKeyLen: 7}, c.pkcs1)
			for label, can := range c.labels {
				ciphertext, err := rsa.EncryptOAEP(crypto.SHA256.New(), rand.Reader, public, []byte("bonjour"), []byte(label))
				if err != nil {
					t.Fatal(err)
				}
				wantPlain(t, k, ciphertext, oaep(label), can)
				if can {
					badPadding(t, k, ciphertext, oaep("other\x00"))
				}
			}
			if c.pkcs1 {
				badPadding(t, k, own, pkcs1)
				badSessionKey(t, k, own)
			}
		})
	}
}

func wantPlain(t *testing.T, k *tpmkey.Key, ciphertext []byte, opts crypto.DecrypterOpts, can bool) {
	t.Helper()
	plain, err := k.Decrypt(nil, ciphertext, opts)
	if can && (err != nil || string(plain) != "bonjour") || !can && !errors.Is(err, tpmkey.ErrNotSupported) {
		t.Errorf("%+v: %q, %v", opts, plain, err)
	}
}

// badPadding has a key open blocks that are wrong in different ways. All look alike,
// and the key goes on.
func badPadding(t *testing.T, k *tpmkey.Key, ciphertext []byte, opts crypto.DecrypterOpts) {
	t.Helper()
	public := k.Public().(*rsa.PublicKey)
	texts := map[string]bool{}
	for _, bad := range [][]byte{
		flipped(ciphertext), encrypted(public, []byte{1}), encrypted(public, append([]byte{2}, bytes.Repeat([]byte{1}, 254)...)), make([]byte, public.Size()),
		bytes.Repeat([]byte{0xff}, public.Size()),
	} {
		plain, err := k.Decrypt(nil, bad, opts)
		if plain != nil || !errors.Is(err, rsa.ErrDecryption) {
			t.Errorf("%+v: %q, %v", opts, plain, err)
			continue
		}
		texts[err.Error()] = true
	}
	if len(texts) != 1 {
		t.Errorf("%+v: %d kinds of errors: %v", opts, len(texts), texts)
	}
}

func badSessionKey(t *testing.T, k *tpmkey.Key, ciphertext []byte) {
	t.Helper()
	fallback := randomBytes(7)
	for _, bad := range [][]byte{flipped(ciphertext), encrypted(k.Public().(*rsa.PublicKey), []byte{1})} {
		key, err := k.Decrypt(bytes.NewReader(fallback), bad, &rsa.PKCS1v15DecryptOptions{SessionKeyLen: 7})
		if err != nil || !bytes.Equal(key, fallback) {
			t.Errorf("%x, %v", key, err)
		}
	}
}

func flipped(ciphertext []byte) []byte {
	bad := bytes.Clone(ciphertext)
	bad[len(bad)-1] ^= 1
	return bad
}

// encrypted is a block, without padding, as a ciphertext.
func encrypted(public *rsa.PublicKey, block []byte) []byte {
	m := new(big.Int).SetBytes(block)
	return m.Exp(m, big.NewInt(int64(public.E)), public.N).FillBytes(make([]byte, public.Size()))
}

// A key agrees on what crypto/ecdh agrees on, on its own curve.
func TestAgree20Curves(t *testing.T) {
	tpm := openState(t, tpmtest.TPM20)
	for name, c := range map[string]struct {
		curve tpm2.TPMECCCurve
		in    ecdh.Curve
	}{
		"P-256": {tpm2.TPMECCNistP256, ecdh.P256()}, "P-384": {tpm2.TPMECCNistP384, ecdh.P384()}, "P-521": {tpm2.TPMECCNistP521, ecdh.P521()},
	} {
		t.Run(name, func(t *testing.T) {
			k := loadKind(t, tpm, kind20{decrypt: true, curve: c.curve})
			public, err := k.Public().(*ecdsa.PublicKey).ECDH()
			if err != nil {
				t.Fatal(err)
			}
			for range 20 {
				remote, err := c.in.GenerateKey(rand.Reader)
				if err != nil {
					t.Fatal(err)
				}
				want, err := remote.ECDH(public)
				if err != nil {
					t.Fatal(err)
				}
				if got, err := k.ECDH(remote.PublicKey()); err != nil || !bytes.Equal(got, want) {
					t.Errorf("%x, %v; want %x", got, err, want)
				}
			}
			if _, err := k.Sign(nil, make([]byte, 32), crypto.SHA256); !errors.Is(err, tpmkey.ErrNotSupported) {
				t.Error(err)
			}
		})
	}
}

// Go's clients shake hands with every kind of key that can, in the newest version that
// the key can.
func TestTLS20(t *testing.T) {
	tpm := openState(t, tpmtest.TPM20)
	for name, c := range map[string]struct {
		kind    kind20
		version uint16
		self    x509.SignatureAlgorithm
	}{
		"RSA":              {kind20{sign: true, decrypt: true}, tls.VersionTLS13, 0},
		"RSA, signs only":  {kind20{sign: true}, tls.VersionTLS13, 0}, // swtpm's salts are right
		"RSASSA":           {kind20{sign: true, scheme: tpm2.TPMAlgRSASSA, hash: tpm2.TPMAlgSHA256}, tls.VersionTLS12, 0},
		"RSAPSS":           {kind20{sign: true, scheme: tpm2.TPMAlgRSAPSS, hash: tpm2.TPMAlgSHA256}, tls.VersionTLS13, x509.SHA256WithRSAPSS},
		"P-256":            {kind20{sign: true, curve: tpm2.TPMECCNistP256}, tls.VersionTLS13, 0},
		"P-384":            {kind20{sign: true, curve: tpm2.TPMECCNistP384}, tls.VersionTLS13, 0},
		"P-521":            {kind20{sign: true, curve: tpm2.TPMECCNistP521}, tls.VersionTLS13, 0},
		"P-384 of SHA-256": {kind20{sign: true, curve: tpm2.TPMECCNistP384, scheme: tpm2.TPMAlgECDSA, hash: tpm2.TPMAlgSHA256}, tls.VersionTLS12, x509.ECDSAWithSHA256},
	} {
		t.Run(name, func(t *testing.T) {
			k := loadKind(t, tpm, c.kind)
			chain := certifiedWith(t, k, c.self)
			config, err := k.TLSConfigPEM(chain)
			if err != nil {
				t.Fatal(err)
			}
			roots := x509.NewCertPool()
			roots.AppendCertsFromPEM(chain)
			client := &tls.Config{RootCAs: roots, ServerName: "localhost"}
			if state := handshake(t, config, client); state.Version != c.version {
				t.Errorf("version %#x", state.Version)
			}
			client.MaxVersion = tls.VersionTLS12
			if state := handshake(t, config, client); state.Version != tls.VersionTLS12 {
				t.Errorf("version %#x", state.Version)
			}
		})
	}
}

// certifiedWith makes a certificate for localhost by an algorithm, 0 for the usual one.
func certifiedWith(t *testing.T, k *tpmkey.Key, algorithm x509.SignatureAlgorithm) []byte {
	t.Helper()
	template := localhost()
	template.SignatureAlgorithm = algorithm
	der, err := x509.CreateCertificate(rand.Reader, template, template, k.Public(), k)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

func TestTLS20Refuses(t *testing.T) {
	tpm := openState(t, tpmtest.TPM20)
	k := loadKind(t, tpm, kind20{sign: true, curve: tpm2.TPMECCNistP256})
	other := loadKind(t, tpm, kind20{sign: true, curve: tpm2.TPMECCNistP256})
	_, err := k.TLSCertificate(certifiedWith(t, other, 0))
	wantError(t, err, tpmkey.ErrWrongCertificate, "localhost")
	other.Close()
	agrees := loadKind(t, tpm, kind20{decrypt: true, curve: tpm2.TPMECCNistP256})
	_, err = agrees.TLSConfigPEM(certifiedWith(t, k, 0))
	wantError(t, err, tpmkey.ErrNotSupported, "sign")
	agrees.Close()
	sha1 := loadKind(t, tpm, kind20{sign: true, scheme: tpm2.TPMAlgRSASSA, hash: tpm2.TPMAlgSHA1})
	_, err = sha1.TLSConfigPEM(certifiedWith(t, k, 0))
	wantError(t, err, tpmkey.ErrNotSupported, "SHA-1")
}

// A chip whose salts are as long as they can be, as those before revision 1.38 were:
// one signature shows TLSConfig that the key cannot do TLS 1.3, and TLS 1.2 works.
func TestTLS20LongestSalt(t *testing.T) {
	private, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	tap := tpmtest.NewTap(tpmtest.Start(t, tpmtest.TPM20).Dial())
	pss := 0
	tap.After = func(_ int, cmd, rsp []byte, err error) ([]byte, error) {
		if digest := pssDigest(cmd); digest != nil && err == nil {
			pss++
			sig, err := rsa.SignPSS(rand.Reader, private, crypto.SHA256, digest, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthAuto})
			copy(rsp[len(rsp)-len(sig)-5:], sig) // 5: an empty nonce, attributes, an empty HMAC
			return rsp, err
		}
		return rsp, err
	}
	tpm, err := tpmkey.OpenTransport(tap)
	if err != nil {
		t.Fatal(err)
	}
	defer tpm.Close()
	file, err := tpm.ImportArea(kind20{sign: true}.area(), private)
	if err != nil {
		t.Fatal(err)
	}
	k, err := tpm.Load(file, nil)
	if err != nil {
		t.Fatal(err)
	}
	chain := certifiedWith(t, k, 0)
	for range 2 {
		config, err := k.TLSConfigPEM(chain)
		if err != nil || config.MaxVersion != tls.VersionTLS12 {
			t.Fatalf("%#x, %v", config.MaxVersion, err)
		}
		roots := x509.NewCertPool()
		roots.AppendCertsFromPEM(chain)
		if state := handshake(t, config, &tls.Config{RootCAs: roots, ServerName: "localhost"}); state.Version != tls.VersionTLS12 {
			t.Errorf("version %#x", state.Version)
		}
	}
	if pss != 1 {
		t.Errorf("%d trial signatures", pss)
	}
	digest := randomBytes(32)
	wantSignature(t, k, digest, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: crypto.SHA256}, false)
	wantSignature(t, k, digest, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthAuto, Hash: crypto.SHA256}, true)
	wantSignature(t, k, digest, &rsa.PSSOptions{SaltLength: 222, Hash: crypto.SHA256}, true)
	if pss != 3 || tap.Count(0x157) != 1 { // TPM2_Load
		t.Errorf("%d signatures by RSAPSS, %d loads", pss, tap.Count(0x157))
	}
}

// pssDigest is the SHA-256 digest in a TPM2_Sign by RSAPSS, nil for other commands.
func pssDigest(cmd []byte) []byte {
	scheme := []byte{0, 0x16, 0, 0x0b}
	at := bytes.LastIndex(cmd, append([]byte{0, 0x16}, 0, 0x0b))
	if len(cmd) < 10 || !bytes.Equal(cmd[6:10], []byte{0, 0, 1, 0x5d}) || at < 34 || !bytes.Equal(cmd[at:at+len(scheme)], scheme) {
		return nil
	}
	return cmd[at-32 : at]
}
