package blob

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/x509"
	"encoding/binary"
	"encoding/pem"
	"errors"
	"math"
	"math/big"
	"path/filepath"
	"strings"
	"testing"
)

// testKey makes an RSA key of any size and exponent: rsa.GenerateKey refuses
// small ones.
func testKey(t *testing.T, bits, e int) *rsa.PrivateKey {
	t.Helper()
	one := big.NewInt(1)
	for {
		p, err := rand.Prime(rand.Reader, bits/2)
		if err != nil {
			t.Fatal(err)
		}
		q, err := rand.Prime(rand.Reader, bits/2)
		if err != nil {
			t.Fatal(err)
		}
		n := new(big.Int).Mul(p, q)
		order := new(big.Int).Mul(new(big.Int).Sub(p, one), new(big.Int).Sub(q, one))
		d := new(big.Int).ModInverse(big.NewInt(int64(e)), order)
		if d != nil && p.Cmp(q) != 0 && n.BitLen() == bits {
			return &rsa.PrivateKey{PublicKey: rsa.PublicKey{N: n, E: e}, D: d, Primes: []*big.Int{p, q}}
		}
	}
}

func readPrivate(t *testing.T, name string) *rsa.PrivateKey {
	t.Helper()
	block, _ := pem.Decode(readFile(t, filepath.Join(tutorial, name)))
	priv, err := x509.ParsePKCS1PrivateKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return priv
}

// TestWrapLikeCreateTPMKey wraps the software keys that create_tpm_key -w
// wrapped: all but the encrypted part is the same.
func TestWrapLikeCreateTPMKey(t *testing.T) {
	parent := testKey(t, 2048, 65537)
	for _, c := range []struct {
		pem, wrapped string
		tmpl         Template
	}{
		{"wrapped.pem", "wrapped", Template{}},
		{"wrapped.pem", "wrapped", Template{Bits: 2048, EncScheme: ESRSAESPKCSv15, SigScheme: SSRSASSAPKCS1v15DER}},
		{"wrapped.pem", "wrapped-auth", Template{NeedSecret: true, UsageAuth: sha1.Sum([]byte("motdepasse"))}},
		{"wrapped1024.pem", "wrapped1024", Template{}},
	} {
		want := mustParse(t, filepath.Join(tutorial, c.wrapped))
		got, err := Wrap(nil, readPrivate(t, c.pem), &parent.PublicKey, c.tmpl)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got.publicBytes(), want.publicBytes()) || len(got.EncData) != len(want.EncData) || got.Container() != PEM {
			t.Errorf("%s: other than create_tpm_key's:\n%x\n%x", c.wrapped, got.Bytes(), want.Bytes())
		}
	}
}

// TestWrapPrivatePart decrypts what Wrap encrypts, as the parent's TPM does.
func TestWrapPrivatePart(t *testing.T) {
	parent := testKey(t, 2048, 65537)
	for _, c := range []struct {
		bits, e  int
		exponent []byte
	}{
		{512, 65537, nil}, {512, 3, []byte{3}}, {1024, 17, []byte{17}}, {2048, 65537, nil}, {2048, 1<<31 - 1, []byte{0x7f, 0xff, 0xff, 0xff}},
	} {
		priv := testKey(t, c.bits, c.e)
		tmpl := Template{NeedSecret: true, EncScheme: ESRSAESOAEPSHA1MGF1, SigScheme: SSRSASSAPKCS1v15SHA1,
			UsageAuth: sha1.Sum([]byte("use")), MigrationAuth: sha1.Sum([]byte("move"))}
		k, err := Wrap(rand.Reader, priv, &parent.PublicKey, tmpl)
		if err != nil {
			t.Fatal(err)
		}
		if !priv.PublicKey.Equal(k.PublicKey()) || !bytes.Equal(k.Exponent, c.exponent) || !k.Migratable() || !k.NeedsSecret() {
			t.Errorf("%d bits, e %d: other public part", c.bits, c.e)
		}
		private, err := rsa.DecryptOAEP(sha1.New(), nil, parent, k.EncData, []byte("TCPA"))
		if err != nil {
			t.Fatal(err)
		}
		digest := sha1.Sum(bytes.TrimSuffix(k.Bytes(), append([]byte{0, 0, 1, 0}, k.EncData...)))
		want := append([]byte{1}, tmpl.UsageAuth[:]...)
		want = append(want, tmpl.MigrationAuth[:]...)
		want = append(want, digest[:]...)
		want = binary.BigEndian.AppendUint32(want, uint32(c.bits/16))
		want = append(want, priv.Primes[0].Bytes()...)
		if !bytes.Equal(private, want) {
			t.Errorf("%d bits, e %d: private part is not as specified", c.bits, c.e)
		}
		data, err := k.Marshal(PEM)
		if err != nil {
			t.Fatal(err)
		}
		if again, err := parseAs[*TPMKey](data); err != nil || !bytes.Equal(again.Bytes(), k.Bytes()) {
			t.Errorf("%d bits, e %d: read back: %v, or other bytes", c.bits, c.e, err)
		}
	}
}

func TestWrapRefuses(t *testing.T) {
	parent := &testKey(t, 2048, 65537).PublicKey
	small := testKey(t, 512, 65537)
	other := testKey(t, 512, 65537)
	with := func(change func(k *rsa.PrivateKey)) *rsa.PrivateKey {
		k := &rsa.PrivateKey{PublicKey: small.PublicKey, D: small.D, Primes: append([]*big.Int{}, small.Primes...)}
		change(k)
		return k
	}
	for _, c := range []struct {
		name   string
		priv   *rsa.PrivateKey
		parent *rsa.PublicKey
		tmpl   Template
		want   string
	}{
		{"nil", nil, parent, Template{}, "no complete RSA private key"},
		{"zero", &rsa.PrivateKey{}, parent, Template{}, "no complete RSA private key"},
		{"768 bits", testKey(t, 768, 65537), parent, Template{}, "has 768 bits"},
		{"three primes", with(func(k *rsa.PrivateKey) { k.Primes = append(k.Primes, big.NewInt(3)) }), parent, Template{}, "has 3 primes"},
		{"no primes", with(func(k *rsa.PrivateKey) { k.Primes = nil }), parent, Template{}, "has 0 primes"},
		{"nil prime", with(func(k *rsa.PrivateKey) { k.Primes[1] = nil }), parent, Template{}, "not made of two primes"},
		{"not prime", with(func(k *rsa.PrivateKey) { k.Primes[0] = new(big.Int).Add(k.Primes[0], big.NewInt(1)) }), parent, Template{}, "not made of two primes"},
		{"negative prime", with(func(k *rsa.PrivateKey) { k.Primes[0] = new(big.Int).Neg(k.Primes[0]) }), parent, Template{}, "not made of two primes"},
		{"other modulus", with(func(k *rsa.PrivateKey) { k.N = other.N }), parent, Template{}, "not the product of its primes"},
		{"other exponent", with(func(k *rsa.PrivateKey) { k.D = other.D }), parent, Template{}, "do not belong together"},
		{"even exponent", with(func(k *rsa.PrivateKey) { k.E = 65536 }), parent, Template{}, "not an odd number"},
		{"exponent 1", with(func(k *rsa.PrivateKey) { k.E = 1 }), parent, Template{}, "not an odd number"},
		{"no parent", small, nil, Template{}, "the parent is no RSA key of 2048 bits"},
		{"small parent", small, &other.PublicKey, Template{}, "the parent is no RSA key of 2048 bits"},
		{"other size", small, parent, Template{Bits: 1024}, "has 512 bits, and 1024 were asked for"},
		{"secret not needed", small, parent, Template{UsageAuth: [20]byte{1}}, "set NeedSecret"},
		{"encryption scheme", small, parent, Template{EncScheme: ESNone}, "encryption scheme is TPM_ES_NONE"},
		{"signature scheme", small, parent, Template{SigScheme: SSRSASSAPKCS1v15INFO}, "signature scheme is TPM_SS_RSASSAPKCS1v15_INFO"},
	} {
		t.Run(c.name, func(t *testing.T) {
			k, err := Wrap(rand.Reader, c.priv, c.parent, c.tmpl)
			if k != nil || err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want one with %q", err, c.want)
			}
		})
	}
}

// TestNewTemplate compares the keyInfo with the key that a TPM made of it.
func TestNewTemplate(t *testing.T) {
	for _, c := range []struct {
		name string
		tmpl Template
	}{
		{"maclef", Template{}},
		{"oaep", Template{EncScheme: ESRSAESOAEPSHA1MGF1}},
		{"sha1", Template{Bits: 2048, SigScheme: SSRSASSAPKCS1v15SHA1}},
		{"oaep-sha1", Template{EncScheme: ESRSAESOAEPSHA1MGF1, SigScheme: SSRSASSAPKCS1v15SHA1}},
		{"rsa1024", Template{Bits: 1024}},
		{"rsa512", Template{Bits: 512}},
		{"auth", Template{NeedSecret: true}},
	} {
		made := mustParse(t, filepath.Join(tutorial, c.name))
		made.Modulus, made.EncData = nil, nil
		k, err := NewTemplate(c.tmpl)
		if err != nil || !bytes.Equal(k.Bytes(), made.Bytes()) || k.PublicKey() != nil {
			t.Errorf("%s: error %v, or another template", c.name, err)
		}
	}
	for _, tmpl := range []Template{{Bits: 4096}, {Bits: -1}, {Bits: math.MaxInt}, {EncScheme: 9}, {SigScheme: SSNone}} {
		if _, err := NewTemplate(tmpl); err == nil {
			t.Errorf("%+v: no error", tmpl)
		}
	}
}

// TestNewTPMKey makes a file of what a TPM returned.
func TestNewTPMKey(t *testing.T) {
	raw := readFile(t, tutorial+"/maclef.raw")
	k, err := NewTPMKey(raw)
	if err != nil {
		t.Fatal(err)
	}
	if file, err := k.Marshal(k.Container()); err != nil || !bytes.Equal(file, readFile(t, tutorial+"/maclef")) {
		t.Errorf("another file, error %v", err)
	}
	if _, err := NewTPMKey(raw[:100]); !errors.Is(err, ErrTruncated) {
		t.Error(err)
	}
}

func TestParsePubKey(t *testing.T) {
	k := mustParse(t, tutorial+"/maclef")
	k.Exponent = []byte{17}
	b := k.publicBytes()
	parms := b[atAlgorithm : atPCRInfo+1] // up to the exponent, of one byte here
	pub := append(bytes.Clone(parms), b[atModulus+1:]...)
	got, err := ParsePubKey(pub)
	if err != nil || !got.Equal(k.PublicKey()) || got.E != 17 {
		t.Fatalf("got %v, %v", got, err)
	}
	for n := range pub {
		if _, err := ParsePubKey(pub[:n]); err == nil {
			t.Errorf("%d bytes are a key", n)
		}
	}
	if _, err := ParsePubKey(append(pub, 0)); err == nil || !strings.Contains(err.Error(), "1 bytes too many at the end of TPM_PUBKEY") {
		t.Errorf("a byte more: %v", err)
	}
	for name, at := range map[string]int{"algorithm": 3, "keyLength": 14, "exponent": 24, "modulus size": 28} {
		if _, err := ParsePubKey(edit(pub, at, 2)); err == nil {
			t.Errorf("another %s: no error", name)
		}
	}
}
