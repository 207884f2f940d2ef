package chip20

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
	"maclef/internal/chip"
)

// A key that signs and decrypts makes what crypto/rsa makes, on a chip with one hash.
func TestSign20PKCS1(t *testing.T) {
	t.Parallel()
	k := &software20{rsa: softwareRSA()}
	for name, able := range map[string]*keyOps{
		"all hashes": k.able(t, signs|decrypts, keyScheme{}),
		"SHA-256":    k.able(t, signs|decrypts, keyScheme{}, tpm2.TPMAlgSHA256),
		"SHA-3":      k.able(t, signs|decrypts, keyScheme{}, tpm2.TPMAlgSHA3256),
		"decrypts":   k.able(t, decrypts, keyScheme{}),
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
			if _, err := able.planSign(make([]byte, n), crypto.Hash(0)); err == nil {
				t.Errorf("%s: %d bytes accepted", name, n)
			}
		}
	}
}

// A key that only signs does what the chip has hashes for, and a DigestInfo of those.
func TestSign20PKCS1SignOnly(t *testing.T) {
	t.Parallel()
	k := &software20{rsa: softwareRSA()}
	able := k.able(t, signs, keyScheme{}, tpm2.TPMAlgSHA1, tpm2.TPMAlgSHA256, tpm2.TPMAlgSHA3384)
	for _, h := range every {
		digest := someDigest(h)
		sig, err := k.signed(t, able, digest, h)
		if able.can.algorithms[algOf(h)] {
			if err != nil || rsa.VerifyPKCS1v15(&k.rsa.PublicKey, h, digest, sig) != nil {
				t.Errorf("%v: %v", h, err)
			}
			info, _ := chip.DigestInfo(h, digest)
			again, err := k.signed(t, able, info, crypto.Hash(0))
			if err != nil || !bytes.Equal(sig, again) {
				t.Errorf("%v, DigestInfo: %v", h, err)
			}
		} else if !errors.Is(err, chip.ErrNotSupported) || !strings.Contains(err.Error(), "SHA-1, SHA-256, SHA3-384") {
			t.Errorf("%v: %v", h, err)
		}
	}
	if _, err := able.planSign([]byte("bonjour"), crypto.Hash(0)); !errors.Is(err, chip.ErrNotSupported) {
		t.Error(err)
	}
}

type oddOptions20 struct{}

func (oddOptions20) HashFunc() crypto.Hash { return crypto.SHA256 }

func TestSign20Refuses(t *testing.T) {
	t.Parallel()
	r := &software20{rsa: softwareRSA()}
	e := &software20{ecdsa: mustMake(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))}
	full, ec := r.able(t, signs|decrypts, keyScheme{}), e.able(t, signs|decrypts, keyScheme{})
	pss := &rsa.PSSOptions{Hash: crypto.SHA256}
	policy := func(cc tpm2.TPMCC) *keyOps {
		able := r.able(t, signs|decrypts, keyScheme{})
		able.file.Policy = []blob.PolicyCommand{{Code: uint32(tpm2.TPMCCPolicyCommandCode), Policy: []byte{0, 0, byte(cc >> 8), byte(cc)}}}
		return able
	}
	certifies := r.able(t, signs, keyScheme{})
	certifies.area.ObjectAttributes.X509Sign = true
	for name, c := range map[string]struct {
		key    *keyOps
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
		"RSAES key":                   {r.able(t, decrypts, keyScheme{alg: tpm2.TPMAlgRSAES}), 32, crypto.SHA256, "attribute sign"},
		"decrypts only, EC":           {e.able(t, decrypts, keyScheme{}), 32, crypto.SHA256, "attribute sign"},
		"restricted":                  {r.able(t, signs|restricted, keyScheme{tpm2.TPMAlgRSASSA, tpm2.TPMAlgSHA256}), 32, crypto.SHA256, "SignMessage"},
		"storage key":                 {r.able(t, decrypts|restricted, keyScheme{}), 32, crypto.SHA256, "restricted"},
		"RSASSA key, other hash":      {r.able(t, signs, keyScheme{tpm2.TPMAlgRSASSA, tpm2.TPMAlgSHA256}), 48, crypto.SHA384, "RSASSA with SHA-256"},
		"RSASSA key, PSS":             {r.able(t, signs, keyScheme{tpm2.TPMAlgRSASSA, tpm2.TPMAlgSHA256}), 32, pss, "RSASSA with SHA-256"},
		"RSASSA key, raw bytes":       {r.able(t, signs, keyScheme{tpm2.TPMAlgRSASSA, tpm2.TPMAlgSHA256}), 32, crypto.Hash(0), "RSASSA with SHA-256"},
		"RSAPSS key, PKCS#1":          {r.able(t, signs, keyScheme{tpm2.TPMAlgRSAPSS, tpm2.TPMAlgSHA256}), 32, crypto.SHA256, "RSAPSS with SHA-256"},
		"ECDAA key":                   {e.able(t, signs, keyScheme{alg: tpm2.TPMAlgECDAA}), 32, crypto.SHA256, "ECDAA"},
		"chip without the hash":       {r.able(t, signs, keyScheme{}, tpm2.TPMAlgSHA1), 32, crypto.SHA256, "RSASSA with SHA-1"},
		"chip with a short hash, EC":  {e.able(t, signs, keyScheme{}, tpm2.TPMAlgSHA1), 32, crypto.SHA256, "SHA-1"},
		"policy for decryption":       {policy(tpm2.TPMCCRSADecrypt), 32, crypto.Hash(0), ""},
		"policy for signPlan, raw":    {policy(tpm2.TPMCCSign), 32, crypto.Hash(0), "may not decrypt"},
		"policy for something else":   {policy(tpm2.TPMCCCertify), 32, crypto.SHA256, "policy"},
		"x509sign":                    {certifies, 32, crypto.SHA256, "x509sign"},
		"1024 bits, SHA-512, own PSS": {(&software20{rsa: softwareRSA1024()}).able(t, signs|decrypts, keyScheme{}), 64, &rsa.PSSOptions{SaltLength: -1, Hash: crypto.SHA512}, "1024-bit"},
	} {
		s, err := c.key.planSign(make([]byte, c.digest), c.opts)
		switch {
		case name == "policy for decryption":
			if err != nil || !s.raw {
				t.Errorf("%s: %v", name, err)
			}
		case err == nil || s != nil:
			t.Errorf("%s: accepted", name)
		case errors.Is(err, chip.ErrNotSupported) != (c.words != "") || !strings.Contains(err.Error(), c.words):
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A restricted key signs messages by its own scheme and hash; other keys sign those that they sign
// the digests of.
func TestSign20Message(t *testing.T) {
	t.Parallel()
	r := &software20{rsa: softwareRSA()}
	e := &software20{ecdsa: mustMake(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))}
	ssa := r.able(t, signs|restricted, keyScheme{tpm2.TPMAlgRSASSA, tpm2.TPMAlgSHA256})
	ec := e.able(t, signs|restricted, keyScheme{tpm2.TPMAlgECDSA, tpm2.TPMAlgSHA256})
	pss := &rsa.PSSOptions{Hash: crypto.SHA256}
	const generated = "the message begins with ff 54 43 47"
	for name, c := range map[string]struct {
		key     *keyOps
		message string
		opts    crypto.SignerOpts
		words   string // empty for one that is signed
	}{
		"RSASSA":                    {ssa, "bonjour", crypto.SHA256, ""},
		"RSASSA, no bytes":          {ssa, "", crypto.SHA256, ""},
		"RSASSA, other hash":        {ssa, "bonjour", crypto.SHA384, "limited to RSASSA with SHA-256"},
		"RSASSA, PSS":               {ssa, "bonjour", pss, "limited to RSASSA with SHA-256"},
		"RSASSA, raw bytes":         {ssa, "bonjour", crypto.Hash(0), "limited to RSASSA with SHA-256"},
		"RSASSA, raw DigestInfo":    {ssa, string(mustMake(chip.DigestInfo(crypto.SHA256, make([]byte, 32)))), crypto.Hash(0), "RSASSA with raw bytes: this key is limited to RSASSA with SHA-256"},
		"RSASSA, nil options":       {ssa, "bonjour", nil, "crypto.SHA256"},
		"RSASSA, nil pointer":       {ssa, "bonjour", (*rsa.PSSOptions)(nil), "nil pointer"},
		"RSASSA, hash not linked":   {ssa, "bonjour", crypto.BLAKE2b_256, "import"},
		"RSASSA, generated":         {ssa, "\xffTCG\x80\x18", crypto.SHA256, generated},
		"RSASSA, generated, 4":      {ssa, "\xffTCG", crypto.SHA256, generated},
		"RSASSA, 3 bytes of it":     {ssa, "\xffTC", crypto.SHA256, ""},
		"RSASSA, other case":        {ssa, "\xfftcg", crypto.SHA256, ""},
		"RSAPSS":                    {r.able(t, signs|restricted, keyScheme{tpm2.TPMAlgRSAPSS, tpm2.TPMAlgSHA256}), "bonjour", pss, ""},
		"ECDSA":                     {ec, "bonjour", crypto.SHA256, ""},
		"ECDSA, longer hash":        {ec, "bonjour", crypto.SHA384, "limited to ECDSA with SHA-256"},
		"ECDSA, raw bytes":          {ec, "bonjour", crypto.Hash(0), "limited to ECDSA with SHA-256"},
		"ECDSA, generated":          {ec, "\xffTCG", crypto.SHA256, generated},
		"storage key":               {r.able(t, decrypts|restricted, keyScheme{}), "bonjour", crypto.SHA256, "restricted"},
		"ordinary, generated":       {r.able(t, signs, keyScheme{}), "\xffTCG", crypto.SHA256, ""},
		"ordinary, raw bytes":       {r.able(t, decrypts, keyScheme{}), "bonjour", crypto.Hash(0), ""},
		"ordinary, nil options":     {r.able(t, decrypts, keyScheme{}), "bonjour", nil, "crypto.SHA256"},
		"ordinary, hash not linked": {r.able(t, decrypts, keyScheme{}), "bonjour", crypto.BLAKE2b_256, "import"},
	} {
		op, err := c.key.signMessage([]byte(c.message), c.opts)
		switch {
		case c.words == "":
			if err != nil || op == nil {
				t.Errorf("%s: %v", name, err)
			}
		case op != nil || !errors.Is(err, chip.ErrNotSupported) || !strings.Contains(err.Error(), c.words):
			t.Errorf("%s: %v", name, err)
		}
	}
}

// finish does not trust the TPM's signature structure.
func TestSignPlanFinish(t *testing.T) {
	t.Parallel()
	plan := (&software20{rsa: softwareRSA()}).able(t, signs, keyScheme{}).signTPM(tpm2.TPMAlgRSASSA, tpm2.TPMAlgSHA256, nil)
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
