package tpmkey

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-tpm/tpm2"

	"maclef/blob"
)

// A key that signs and decrypts makes what crypto/rsa makes, on a chip with one hash.
func TestSign20PKCS1(t *testing.T) {
	k := &software20{rsa: softwareRSA()}
	for name, able := range map[string]*abilities20{
		"all hashes": k.able(t, signs|decrypts, scheme20{}),
		"SHA-256":    k.able(t, signs|decrypts, scheme20{}, tpm2.TPMAlgSHA256),
		"SHA-3":      k.able(t, signs|decrypts, scheme20{}, tpm2.TPMAlgSHA3256),
		"decrypts":   k.able(t, decrypts, scheme20{}),
	} {
		for _, h := range every {
			digest := someDigest(h)
			want, err := rsa.SignPKCS1v15(nil, k.rsa, h, digest)
			if err != nil {
				t.Fatal(err)
			}
			got, err := k.signed(t, able, digest, h)
			if err != nil || !bytes.Equal(got, want) {
				t.Errorf("%s, %v: %x, %v", name, h, got, err)
			}
		}
		for _, n := range []int{1, 20, 36, 83, 245} {
			raw := bytes.Repeat([]byte{0xa5}, n)
			sig, err := k.signed(t, able, raw, crypto.Hash(0))
			if err != nil || rsa.VerifyPKCS1v15(&k.rsa.PublicKey, 0, raw, sig) != nil {
				t.Errorf("%s, %d bytes: %v", name, n, err)
			}
		}
		for _, n := range []int{0, 246, 1000} {
			if _, err := able.checkSign(make([]byte, n), crypto.Hash(0)); err == nil {
				t.Errorf("%s: %d bytes accepted", name, n)
			}
		}
	}
}

// A key that only signs does what the chip has hashes for, and a DigestInfo of those.
func TestSign20PKCS1SignOnly(t *testing.T) {
	k := &software20{rsa: softwareRSA()}
	able := k.able(t, signs, scheme20{}, tpm2.TPMAlgSHA1, tpm2.TPMAlgSHA256, tpm2.TPMAlgSHA3384)
	for _, h := range every {
		digest := someDigest(h)
		sig, err := k.signed(t, able, digest, h)
		if able.chip.algorithms[algOf(h)] {
			if err != nil || rsa.VerifyPKCS1v15(&k.rsa.PublicKey, h, digest, sig) != nil {
				t.Errorf("%v: %v", h, err)
			}
			info, _ := digestInfo(h, digest)
			again, err := k.signed(t, able, info, crypto.Hash(0))
			if err != nil || !bytes.Equal(sig, again) {
				t.Errorf("%v, DigestInfo: %v", h, err)
			}
		} else if !errors.Is(err, ErrNotSupported) || !strings.Contains(err.Error(), "SHA-1, SHA-256, SHA3-384") {
			t.Errorf("%v: %v", h, err)
		}
	}
	if _, err := able.checkSign([]byte("bonjour"), crypto.Hash(0)); !errors.Is(err, ErrNotSupported) {
		t.Error(err)
	}
}

// Every salt length, with every hash, on keys of two sizes.
func TestSign20PSS(t *testing.T) {
	for _, private := range []*rsa.PrivateKey{softwareRSA(), softwareRSA1024()} {
		k := &software20{rsa: private}
		able := k.able(t, signs|decrypts, scheme20{}, tpm2.TPMAlgSHA256)
		for _, h := range every {
			if !h.Available() { // MD5SHA1
				continue
			}
			digest := someDigest(h)
			room := pssRoom(&private.PublicKey, h)
			for _, n := range []int{rsa.PSSSaltLengthEqualsHash, rsa.PSSSaltLengthAuto, 1, 20, 31, 32, 33, room - 1, room} {
				opts := &rsa.PSSOptions{SaltLength: n, Hash: h}
				sig, err := k.signed(t, able, digest, opts)
				switch {
				case n > room || n == rsa.PSSSaltLengthEqualsHash && h.Size() > room:
					if !errors.Is(err, ErrNotSupported) {
						t.Errorf("%v, salt %d of %d: %v", h, n, room, err)
					}
					continue
				case err != nil:
					t.Errorf("%v, salt %d of %d: %v", h, n, room, err)
					continue
				case n == rsa.PSSSaltLengthAuto: // as crypto/rsa does
					opts.SaltLength = room
				}
				if err := rsa.VerifyPSS(&private.PublicKey, h, digest, sig, opts); err != nil {
					t.Errorf("%v, salt %d of %d: %v", h, n, room, err)
				}
			}
			for _, n := range []int{room + 1, 1000, -2} {
				if _, err := able.checkSign(digest, &rsa.PSSOptions{SaltLength: n, Hash: h}); !errors.Is(err, ErrNotSupported) {
					t.Errorf("%v, salt %d of %d: %v", h, n, room, err)
				}
			}
		}
	}
}

// No two blocks are alike, and odd sizes of moduli are right.
func TestEMSAPSS(t *testing.T) {
	for bits := 1024; bits < 1034; bits++ {
		private, err := rsa.GenerateKey(rand.Reader, bits)
		if err != nil {
			t.Fatal(err)
		}
		k, digest, salt := &software20{rsa: private}, someDigest(crypto.SHA256), someDigest(crypto.SHA1)
		sig, ok := padded(k.raw(emsaPSS(&private.PublicKey, crypto.SHA256, digest, salt)), private.Size())
		if !ok || rsa.VerifyPSS(&private.PublicKey, crypto.SHA256, digest, sig, &rsa.PSSOptions{SaltLength: 20}) != nil {
			t.Errorf("%d bits: %v", bits, ok)
		}
	}
	able := (&software20{rsa: softwareRSA()}).able(t, signs|decrypts, scheme20{})
	opts := &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: crypto.SHA256}
	one, _ := able.checkSign(make([]byte, 32), opts)
	other, _ := able.checkSign(make([]byte, 32), opts)
	if bytes.Equal(one.area, other.area) {
		t.Error("two salts are the same")
	}
}

// A key that only signs has the salt that the chip makes, or none; the chip's first
// signature tells.
func TestSign20PSSSignOnly(t *testing.T) {
	for _, longest := range []bool{false, true} {
		k := &software20{rsa: softwareRSA(), longest: longest}
		able := k.able(t, signs, scheme20{})
		room := pssRoom(&k.rsa.PublicKey, crypto.SHA256)
		for i, c := range []struct {
			salt int
			fits bool
		}{
			{rsa.PSSSaltLengthAuto, true}, {rsa.PSSSaltLengthEqualsHash, !longest}, {32, !longest}, {room, longest}, {20, false}, {33, false},
		} {
			digest, opts := someDigest(crypto.SHA256), &rsa.PSSOptions{SaltLength: c.salt, Hash: crypto.SHA256}
			s, err := able.checkSign(digest, opts)
			if i > 0 && (err == nil) != c.fits { // what is learnt already
				t.Errorf("longest %v, salt %d: %v", longest, c.salt, err)
			}
			if err == nil && s.unsure() {
				t.Errorf("longest %v, salt %d: still unsure", longest, c.salt)
			}
			able.chip.salt.kind.Store(saltUnknown)
			s, err = able.checkSign(digest, opts)
			if err != nil || s.unsure() != (c.salt != rsa.PSSSaltLengthAuto) {
				t.Fatal(err)
			}
			sig, err := k.signed(t, able, digest, opts)
			switch {
			case !c.fits && !errors.Is(err, ErrNotSupported):
				t.Errorf("longest %v, salt %d: %v", longest, c.salt, err)
			case c.fits && (err != nil || rsa.VerifyPSS(&k.rsa.PublicKey, crypto.SHA256, digest, sig, opts) != nil):
				t.Errorf("longest %v, salt %d: %v", longest, c.salt, err)
			}
		}
		if _, err := able.checkSign(someDigest(crypto.SHA3_256), &rsa.PSSOptions{Hash: crypto.SHA3_256}); !errors.Is(err, ErrNotSupported) {
			t.Error(err)
		}
	}
}

// Whatever hash the digest is of, and whatever the chip has, ECDSA signs the same
// integer.
func TestSign20ECDSA(t *testing.T) {
	for _, curve := range []elliptic.Curve{elliptic.P256(), elliptic.P384(), elliptic.P521()} {
		private, err := ecdsa.GenerateKey(curve, rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		k := &software20{ecdsa: private}
		for _, able := range []*abilities20{
			k.able(t, signs, scheme20{}),
			k.able(t, signs, scheme20{}, tpm2.TPMAlgSHA3512),
			k.able(t, signs|decrypts, scheme20{}, tpm2.TPMAlgSHA512),
			k.able(t, signs, scheme20{tpm2.TPMAlgECDSA, tpm2.TPMAlgSHA512}),
		} {
			for _, h := range append(every, crypto.BLAKE2b_512, crypto.BLAKE2s_256) {
				digest := someDigest(h)
				sig, err := k.signed(t, able, digest, h)
				if err != nil || !ecdsa.VerifyASN1(&private.PublicKey, digest, sig) {
					t.Errorf("%v, %v: %v", curve.Params().Name, h, err)
				}
			}
			for n := 1; n < 70; n++ {
				digest := make([]byte, n)
				rand.Read(digest)
				sig, err := k.signed(t, able, digest, crypto.Hash(0))
				if tooLong := curve == elliptic.P521() && n > 64; tooLong {
					if !errors.Is(err, ErrNotSupported) {
						t.Errorf("P-521, %d bytes: %v", n, err)
					}
				} else if err != nil || !ecdsa.VerifyASN1(&private.PublicKey, digest, sig) {
					t.Errorf("%v, %d bytes: %v", curve.Params().Name, n, err)
				}
			}
		}
	}
}

// A key that is limited to a hash signs other digests as far as they fit.
func TestSign20ECDSAScheme(t *testing.T) {
	private, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	k := &software20{ecdsa: private}
	able := k.able(t, signs, scheme20{tpm2.TPMAlgECDSA, tpm2.TPMAlgSHA256})
	for _, h := range every {
		digest := someDigest(h)
		sig, err := k.signed(t, able, digest, h)
		switch {
		case h.Size() > 32 && (!errors.Is(err, ErrNotSupported) || !strings.Contains(err.Error(), "SHA-256")):
			t.Errorf("%v: %v", h, err)
		case h.Size() <= 32 && (err != nil || !ecdsa.VerifyASN1(&private.PublicKey, digest, sig)):
			t.Errorf("%v: %v", h, err)
		}
	}
}

// Integers with zeros in front are encoded as crypto/ecdsa does.
func TestECDSADER(t *testing.T) {
	sig, err := ecdsaDER([]byte{0, 0, 0x80, 1}, []byte{0, 5})
	if want := []byte{0x30, 8, 2, 3, 0, 0x80, 1, 2, 1, 5}; err != nil || !bytes.Equal(sig, want) {
		t.Errorf("%x, %v", sig, err)
	}
}

type oddOptions20 struct{}

func (oddOptions20) HashFunc() crypto.Hash { return crypto.SHA256 }

func TestSign20Refuses(t *testing.T) {
	r := &software20{rsa: softwareRSA()}
	e := &software20{ecdsa: mustMake(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))}
	full, ec := r.able(t, signs|decrypts, scheme20{}), e.able(t, signs|decrypts, scheme20{})
	pss := &rsa.PSSOptions{Hash: crypto.SHA256}
	policy := func(cc tpm2.TPMCC) *abilities20 {
		able := r.able(t, signs|decrypts, scheme20{})
		able.file.TSS2.Policy = []blob.PolicyCommand{{Code: tpm2.TPMCCPolicyCommandCode, Policy: []byte{0, 0, byte(cc >> 8), byte(cc)}}}
		return able
	}
	certifies := r.able(t, signs, scheme20{})
	certifies.area.ObjectAttributes.X509Sign = true
	for name, c := range map[string]struct {
		key    *abilities20
		digest int
		opts   crypto.SignerOpts
		words  string // empty for an error of no kind
	}{
		"nil options":                 {full, 32, nil, "crypto.SHA256"},
		"nil options, EC":             {ec, 32, nil, "crypto.SHA256"},
		"PSS, nil pointer":            {full, 32, (*rsa.PSSOptions)(nil), "nil pointer"},
		"PSS, nil pointer, EC":        {ec, 32, (*rsa.PSSOptions)(nil), "nil pointer"},
		"PSS without a hash":          {full, 32, &rsa.PSSOptions{}, "PSSOptions.Hash"},
		"PSS with unknown hash":       {full, 32, &rsa.PSSOptions{Hash: 99}, "99"},
		"PSS with hash not linked":    {full, 32, &rsa.PSSOptions{Hash: crypto.BLAKE2b_256}, "import"},
		"PSS, short digest":           {full, 31, pss, ""},
		"PSS, EC":                     {ec, 32, pss, "RSA"},
		"foreign options":             {full, 32, oddOptions20{}, "oddOptions20"},
		"foreign options, EC":         {ec, 32, &ed25519.Options{}, "ed25519"},
		"unknown hash":                {full, 32, crypto.Hash(99), "99"},
		"unknown hash, EC":            {ec, 32, crypto.Hash(99), "99"},
		"BLAKE2":                      {full, 32, crypto.BLAKE2b_256, "BLAKE2"},
		"short digest":                {full, 31, crypto.SHA256, ""},
		"long digest, EC":             {ec, 33, crypto.SHA256, ""},
		"empty digest":                {full, 0, crypto.SHA256, ""},
		"empty digest, EC":            {ec, 0, crypto.Hash(0), ""},
		"RSAES key":                   {r.able(t, decrypts, scheme20{alg: tpm2.TPMAlgRSAES}), 32, crypto.SHA256, "attribute sign"},
		"decrypts only, EC":           {e.able(t, decrypts, scheme20{}), 32, crypto.SHA256, "attribute sign"},
		"restricted":                  {r.able(t, signs|restricted, scheme20{tpm2.TPMAlgRSASSA, tpm2.TPMAlgSHA256}), 32, crypto.SHA256, "restricted"},
		"storage key":                 {r.able(t, decrypts|restricted, scheme20{}), 32, crypto.SHA256, "restricted"},
		"RSASSA key, other hash":      {r.able(t, signs, scheme20{tpm2.TPMAlgRSASSA, tpm2.TPMAlgSHA256}), 48, crypto.SHA384, "RSASSA with SHA-256"},
		"RSASSA key, PSS":             {r.able(t, signs, scheme20{tpm2.TPMAlgRSASSA, tpm2.TPMAlgSHA256}), 32, pss, "RSASSA with SHA-256"},
		"RSASSA key, raw bytes":       {r.able(t, signs, scheme20{tpm2.TPMAlgRSASSA, tpm2.TPMAlgSHA256}), 32, crypto.Hash(0), "RSASSA with SHA-256"},
		"RSAPSS key, PKCS#1":          {r.able(t, signs, scheme20{tpm2.TPMAlgRSAPSS, tpm2.TPMAlgSHA256}), 32, crypto.SHA256, "RSAPSS with SHA-256"},
		"ECDAA key":                   {e.able(t, signs, scheme20{alg: tpm2.TPMAlgECDAA}), 32, crypto.SHA256, "ECDAA"},
		"chip without the hash":       {r.able(t, signs, scheme20{}, tpm2.TPMAlgSHA1), 32, crypto.SHA256, "RSASSA with SHA-1"},
		"chip with a short hash, EC":  {e.able(t, signs, scheme20{}, tpm2.TPMAlgSHA1), 32, crypto.SHA256, "SHA-1"},
		"policy for decryption":       {policy(tpm2.TPMCCRSADecrypt), 32, crypto.Hash(0), ""},
		"policy for signing, raw":     {policy(tpm2.TPMCCSign), 32, crypto.Hash(0), "may not decrypt"},
		"policy for something else":   {policy(tpm2.TPMCCCertify), 32, crypto.SHA256, "policy"},
		"x509sign":                    {certifies, 32, crypto.SHA256, "x509sign"},
		"1024 bits, SHA-512, own PSS": {(&software20{rsa: softwareRSA1024()}).able(t, signs|decrypts, scheme20{}), 64, &rsa.PSSOptions{SaltLength: -1, Hash: crypto.SHA512}, "1024-bit"},
	} {
		s, err := c.key.checkSign(make([]byte, c.digest), c.opts)
		switch {
		case name == "policy for decryption":
			if err != nil || !s.how.(*plan20).raw {
				t.Errorf("%s: %v", name, err)
			}
		case err == nil || s != nil:
			t.Errorf("%s: accepted", name)
		case errors.Is(err, ErrNotSupported) != (c.words != "") || !strings.Contains(err.Error(), c.words):
			t.Errorf("%s: %v", name, err)
		}
	}
}

// What a chip answers is not believed.
func TestPlan20Finish(t *testing.T) {
	plan := (&software20{rsa: softwareRSA()}).able(t, signs, scheme20{}).signTPM(tpm2.TPMAlgRSASSA, tpm2.TPMAlgSHA256, nil).how.(*plan20)
	long := &tpm2.TPMSSignatureRSA{Sig: tpm2.TPM2BPublicKeyRSA{Buffer: bytes.Repeat([]byte{1}, 257)}}
	for name, answer := range map[string]*tpm2.TPMTSignature{
		"nothing":       {},
		"NULL":          {SigAlg: tpm2.TPMAlgNull},
		"no union":      {SigAlg: tpm2.TPMAlgRSASSA},
		"other scheme":  {SigAlg: tpm2.TPMAlgRSAPSS, Signature: tpm2.NewTPMUSignature(tpm2.TPMAlgRSAPSS, &tpm2.TPMSSignatureRSA{})},
		"too long":      {SigAlg: tpm2.TPMAlgRSASSA, Signature: tpm2.NewTPMUSignature(tpm2.TPMAlgRSASSA, long)},
		"other content": {SigAlg: tpm2.TPMAlgRSASSA, Signature: tpm2.NewTPMUSignature(tpm2.TPMAlgECDSA, &tpm2.TPMSSignatureECC{})},
	} {
		if sig, err := plan.finish(answer); err == nil && name != "other content" {
			t.Errorf("%s: %x", name, sig)
		}
	}
}
