package main

import (
	"bytes"
	"crypto"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-tpm/tpm2"

	"maclef/blob"
	"maclef/internal/policy"
	"maclef/internal/pubarea"
	"maclef/internal/tpmtest"
	"maclef/tpmkey"
)

const (
	null      = tpm2.TPMAlgNull
	signOnly  = uint32(pubarea.AttrUserWithAuth | pubarea.AttrSign)
	both      = signOnly | pubarea.AttrDecrypt
	noneAtAll = uint32(pubarea.AttrUserWithAuth)
)

func ones(n int) []byte { return bytes.Repeat([]byte{0xff}, n) }

// eccArea makes the area of an ECC key with scheme NULL.
func eccArea(curve tpm2.TPMECCCurve, x, y []byte) []byte {
	return tpmtest.PublicArea(tpm2.TPMAlgECC, tpm2.TPMAlgSHA256, both, []byte{}, null, null, curve, null, x, y)
}

// rsaArea makes the area of an RSA key with scheme NULL.
func rsaArea(bits int, exponent uint32, modulus []byte) []byte {
	return tpmtest.PublicArea(tpm2.TPMAlgRSA, tpm2.TPMAlgSHA256, both, []byte{}, null, null, bits, exponent, modulus)
}

// How the key row explains what no program can use.
func TestKeyText(t *testing.T) {
	sha256 := tpm2.TPMAlgSHA256
	digest := ones(32)
	for _, c := range []struct {
		name, want string
		area       []byte
	}{
		{"BN", "ECC, Barreto-Naehrig 256 (TPM_ECC_BN_P256)",
			tpmtest.PublicArea(tpm2.TPMAlgECC, sha256, signOnly, []byte{}, null, tpm2.TPMAlgECDAA, sha256, 0, tpm2.TPMECCBNP256, null, ones(32), ones(32))},
		{"SM2", "ECC, SM2 (TPM_ECC_SM2_P256)",
			tpmtest.PublicArea(tpm2.TPMAlgECC, sha256, signOnly, []byte{}, null, tpm2.TPMAlgSM2, tpm2.TPMAlgSM3256, tpm2.TPMECCSM2P256, null, ones(32), ones(32))},
		{"P-224", "ECC, P-224 (TPM_ECC_NIST_P224)",
			eccArea(tpm2.TPMECCNistP224, ones(28), ones(28))},
		{"P-192", "ECC, P-192 (TPM_ECC_NIST_P192)",
			eccArea(tpm2.TPMECCNistP192, ones(24), ones(24))},
		{"unknown curve", "ECC, TPM_ECC_CURVE 0x0999",
			eccArea(0x999, ones(3), nil)},
		{"RSA 512", "RSA, 512 bits, exponent 65537",
			rsaArea(512, 0, ones(64))},
		{"RSA 8192", "RSA, 8192 bits, exponent 3",
			rsaArea(8192, 3, ones(1024))},
		{"RSA with a huge exponent", "RSA, 2048 bits, exponent 4294967295",
			rsaArea(2048, 0xffffffff, ones(256))},
		{"HMAC", "HMAC key (TPM_ALG_KEYEDHASH)",
			tpmtest.PublicArea(tpm2.TPMAlgKeyedHash, sha256, signOnly, []byte{}, tpm2.TPMAlgHMAC, sha256, digest)},
		{"XOR", "XOR key (TPM_ALG_KEYEDHASH)",
			tpmtest.PublicArea(tpm2.TPMAlgKeyedHash, sha256, uint32(pubarea.AttrDecrypt), []byte{}, tpm2.TPMAlgXOR, sha256, tpm2.TPMAlgKDF1SP800108, digest)},
		{"derivation parent", "seed to derive keys from",
			tpmtest.PublicArea(tpm2.TPMAlgKeyedHash, sha256, uint32(pubarea.AttrDecrypt|pubarea.AttrRestricted), []byte{}, tpm2.TPMAlgXOR, sha256, tpm2.TPMAlgKDF1SP800108, digest)},
		{"sealed", "sealed: TPM2_Unseal gives it",
			tpmtest.PublicArea(tpm2.TPMAlgKeyedHash, sha256, noneAtAll, []byte{}, null, digest)},
		{"AES", "AES, 128 bits, CFB",
			tpmtest.PublicArea(tpm2.TPMAlgSymCipher, sha256, both, []byte{}, tpm2.TPMAlgAES, 128, tpm2.TPMAlgCFB, digest)},
		{"unknown type", "TPM_ALG_ID 0x00a1, unknown to this program",
			tpmtest.PublicArea(0xa1, sha256, signOnly, []byte{}, 1, 2, 3)},
		{"unknown scheme", "RSA, with TPM_ALG_ID 0x0999, unknown to this program",
			tpmtest.PublicArea(tpm2.TPMAlgRSA, sha256, signOnly, []byte{}, null, 0x999, 2048, uint32(0), ones(256))},
		{"EdDSA", "ECC, with TPM_ALG_EDDSA, unknown to this program",
			tpmtest.PublicArea(tpm2.TPMAlgECC, sha256, signOnly, []byte{}, null, tpm2.TPMAlgEDDSA, sha256, tpm2.TPMECCCurve25519, null, ones(32), ones(32))},
		{"unknown cipher", "symmetric cipher, with TPM_ALG_ID 0x0999, unknown to this program",
			tpmtest.PublicArea(tpm2.TPMAlgSymCipher, sha256, both, []byte{}, 0x999, 128, 3, digest)},
		{"unknown name algorithm", "RSA, 2048 bits, exponent 65537",
			tpmtest.PublicArea(tpm2.TPMAlgRSA, 0x999, both, []byte{1, 2}, null, null, 2048, uint32(0), ones(256))},
		{"no name algorithm", "RSA, 2048 bits, exponent 65537",
			tpmtest.PublicArea(tpm2.TPMAlgRSA, null, both, []byte{}, null, null, 2048, uint32(0), ones(256))},
	} {
		p, err := pubarea.Parse(c.area)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
		} else if got := keyText(p); got != c.want {
			t.Errorf("%s: explained as %q", c.name, got)
		}
	}
}

// What keys can, and with which flags, as inspect and the hint of sign say it.
func TestWhatKeysCan(t *testing.T) {
	sized := func(bits int, attributes uint32, scheme ...any) []byte {
		fields := append([]any{tpm2.TPMAlgRSA, tpm2.TPMAlgSHA256, attributes, []byte{}, null}, scheme...)
		return tpmtest.PublicArea(append(fields, bits, uint32(0), ones(bits/8))...)
	}
	area := func(attributes uint32, scheme ...any) []byte { return sized(2048, attributes, scheme...) }
	policyFor := func(cc tpm2.TPMCC) []blob.PolicyCommand {
		return []blob.PolicyCommand{{Code: uint32(tpm2.TPMCCPolicyCommandCode), Policy: []byte{0, 0, byte(cc >> 8), byte(cc)}}}
	}
	const sha1, sha384 = tpm2.TPMAlgSHA1, tpm2.TPMAlgSHA384
	for name, c := range map[string]struct {
		public []byte
		policy []blob.PolicyCommand
		can    string
		hint   string // for a signature with PKCS#1 v1.5 and SHA-512
	}{
		"no scheme":            {area(both, null), nil, "sign, decrypt", ""},
		"PSS":                  {area(signOnly, tpm2.TPMAlgRSAPSS, sha384), nil, "sign (tpmctl sign -pss -hash sha384)", "this key signs with -pss -hash sha384"},
		"PSS, short key":       {sized(1024, signOnly, tpm2.TPMAlgRSAPSS, tpm2.TPMAlgSHA512), nil, "sign (tpmctl sign -pss -salt max -hash sha512)", "this key signs with -pss -salt max -hash sha512"},
		"PKCS#1":               {area(signOnly, tpm2.TPMAlgRSASSA, sha1), nil, "sign (tpmctl sign -hash sha1)", "this key signs with -hash sha1"},
		"PKCS#1, usual hash":   {area(signOnly, tpm2.TPMAlgRSASSA, tpm2.TPMAlgSHA256), nil, "sign", "leave out -hash and -pss: this key signs without them"},
		"OAEP":                 {area(noneAtAll|pubarea.AttrDecrypt, tpm2.TPMAlgOAEP, sha384), nil, "decrypt", ""},
		"useless":              {area(pubarea.AttrSign, null), nil, "nothing: no program can use it, for it has neither userWithAuth nor a policy", ""},
		"policy to sign":       {area(signOnly, null), policyFor(tpm2.TPMCCSign), "sign", ""},
		"policy to agree":      {readFixture(t, "e2-p256").Public, policyFor(tpm2.TPMCCECDHZGen), "agree on a secret (ECDH)", ""},
		"policy to only sign":  {area(both, null), policyFor(tpm2.TPMCCSign), "sign", ""},
		"policy for duplicate": {area(signOnly, null), policyFor(tpm2.TPMCCDuplicate), "neither sign nor decrypt", ""},
	} {
		k := &blob.TSS2{Public: c.public, Policy: c.policy, Private: []byte{0, 1, 1}, Parent: 0x40000001}
		if got := canText(k); got != c.can {
			t.Errorf("%s: can %q, want %q", name, got, c.can)
		}
		err := withSignFlags(k, crypto.SHA512, tpmkey.CheckSign(k, make([]byte, 64), crypto.SHA512))
		var hinted interface{ Hint() string }
		switch {
		case c.hint == "" && errors.As(err, &hinted):
			t.Errorf("%s: hint %q", name, hinted.Hint())
		case c.hint != "" && (!errors.As(err, &hinted) || hinted.Hint() != c.hint):
			t.Errorf("%s: error %v, want the hint %q", name, err, c.hint)
		}
	}
}

func readFixture(t testing.TB, name string) *blob.TSS2 {
	t.Helper()
	k, err := blob.Parse(tpmtest.Fixture(t, "tpm2/"+name+".pem"))
	if err != nil {
		t.Fatal(err)
	}
	return k.(*blob.TSS2)
}

func TestTSS2RowsOfFixtures(t *testing.T) {
	for _, f := range []struct {
		name, key string
		policy    bool
	}{
		{"e2-rsa", "RSA, 2048 bits, exponent 65537", false},
		{"e2-p256", "ECC, P-256 (TPM_ECC_NIST_P256)", false},
		{"e2-p384", "ECC, P-384 (TPM_ECC_NIST_P384)", false},
		{"e2-rsa-auth", "RSA, 2048 bits, exponent 65537", false},
		{"e2-rsa-auth-da", "RSA, 2048 bits, exponent 65537", false},
		{"e2-p256-auth", "ECC, P-256 (TPM_ECC_NIST_P256)", false},
		{"e2-rsa-81000001", "RSA, 2048 bits, exponent 65537", false},
		{"e2-p256-81000001", "ECC, P-256 (TPM_ECC_NIST_P256)", false},
		{"e2-wrap-rsa", "RSA, 2048 bits, exponent 65537", false},
		{"e2-wrap-ec", "ECC, P-256 (TPM_ECC_NIST_P256)", false},
		{"e2-import-rsa", "RSA, 2048 bits, exponent 65537", false},
		{"e2-import-ec", "ECC, P-256 (TPM_ECC_NIST_P256)", false},
		{"e2-rsa-pcr16", "RSA, 2048 bits, exponent 65537", true},
		{"e2-p256-pcr", "ECC, P-256 (TPM_ECC_NIST_P256)", true},
		{"e2-sealed", "sealed: TPM2_Unseal gives it", false},
		{"pv-rsa", "RSA, 2048 bits, exponent 65537", false},
		{"pv-p256", "ECC, P-256 (TPM_ECC_NIST_P256)", false},
		{"pv-p384", "ECC, P-384 (TPM_ECC_NIST_P384)", false},
		{"pv-rsa-auth", "RSA, 2048 bits, exponent 65537", false},
		{"pv-p256-81000001", "ECC, P-256 (TPM_ECC_NIST_P256)", false},
		{"tools-rsa", "RSA, 2048 bits, exponent 65537", false},
	} {
		rows := map[string]string{}
		for _, r := range tss2Rows(readFixture(t, f.name)) {
			rows[r.what] = r.how
		}
		if rows["key"]+rows["data"] != f.key || strings.HasPrefix(rows["policy"], "PolicyPCR: sha256 PCR") != f.policy {
			t.Errorf("%s is explained as %q", f.name, rows)
		}
	}
}

func rowText(k *blob.TSS2) string {
	var b strings.Builder
	for _, r := range tss2Rows(k) {
		b.WriteString(r.what + ": " + r.how + "\n")
	}
	return b.String()
}

func TestTSS2Rows(t *testing.T) {
	const want = `file: loadable key (2.23.133.10.1.3)
key: ECC, P-256 (TPM_ECC_NIST_P256)
scheme: any that the command says (TPM_ALG_NULL)
name algorithm: SHA-256
attributes: sensitiveDataOrigin, noDA, decrypt, sign
origin: made by a TPM
moves: may be duplicated where its policy allows that
parent: the owner hierarchy (0x40000001), primary key ECC P-256
secret: none of its own
wrong secrets: do not count towards a lockout (noDA)
policy digest: sha256:599a9cca81c171e404e4afc462e7415ee799c498b00ff6edb68d07de1dc47a20
policy: PolicyPCR: sha256 PCRs 16, 23
TPM name: 000bd1096efb957626998ae9b078bf21c837a3e5429f3686e9bd1834441568d6dcba
`
	if got := rowText(readFixture(t, "e2-p256-pcr")); got != want {
		t.Errorf("got\n%s", got)
	}
	key := bytes.Repeat([]byte{0x11}, 32)
	otherPCR := blob.PolicyCommand{Code: uint32(tpm2.TPMCCPolicyPCR), Policy: slices.Concat([]byte{0, 0, 0, 1, 0, 4, 3, 0x80, 0, 0}, key)}
	for name, c := range map[string]struct {
		change func(*blob.TSS2)
		want   string
	}{
		"another policy":  {func(u *blob.TSS2) { u.Policy[0] = otherPCR }, "which is NOT that of the commands below"},
		"no policy":       {func(u *blob.TSS2) { u.Policy = nil }, "policy: unknown: only the digest of its steps is stored"},
		"unknown command": {func(u *blob.TSS2) { u.Policy[0] = blob.PolicyCommand{Code: 0x1a0, Policy: key} }, "policy: command 0x000001a0, with 32 bytes"},
		"unchecked":       {func(u *blob.TSS2) { u.Policy[0].Code = uint32(tpm2.TPMCCPolicySigned) }, "not checked: what PolicySigned does"},
		"two steps": {func(u *blob.TSS2) {
			u.Policy = append(u.Policy, blob.PolicyCommand{Code: uint32(tpm2.TPMCCPolicyAuthValue)})
		}, "policy, step 2: PolicyAuthValue: the key's secret"},
		"signed": {func(u *blob.TSS2) { u.AuthPolicy = []blob.AuthPolicy{{Name: "new kernel", Policy: u.Policy}} },
			"signed policy 1: \"new kernel\"\nsigned policy 1: PolicyPCR: sha256 PCRs 16, 23\n"},
		"in the TPM":  {func(u *blob.TSS2) { u.Handle, u.Private = 0x81000001, nil }, "file: none: persistent key 0x81000001 of the TPM"},
		"description": {func(u *blob.TSS2) { u.Description = "a\x1b[2J" }, `description: "a\x1b[2J"`},
		"RSA parent":  {func(u *blob.TSS2) { u.RSAParent = true }, "parent: the owner hierarchy (0x40000001), primary key RSA 2048\n"},
		"useless": {func(u *blob.TSS2) {
			u.Public = tpmtest.PublicArea(tpm2.TPMAlgRSA, tpm2.TPMAlgSHA256, uint32(pubarea.AttrSign), []byte{}, null, null, 2048, uint32(0), ones(256))
		},
			"secret: none helps: it has neither userWithAuth nor a policy\n"},
		"secret of another": {func(u *blob.TSS2) { u.Policy[0] = policy.HierarchySecret(tpm2.TPMRHOwner) },
			"secret: none of its own; its policy asks for that of the owner hierarchy, which can be given (-key-pass)\n"},
		"policy beside the secret": {func(u *blob.TSS2) { u.Policy, u.Public[9] = nil, u.Public[9]|pubarea.AttrUserWithAuth },
			"policy steps: not needed to use it: its secret alone does (userWithAuth)\n"},
		"imported": {func(u *blob.TSS2) { *u = *readFixture(t, "e2-wrap-ec") }, "moves: it was outside of the TPM once, "},
		"damaged":  {func(u *blob.TSS2) { u.Public = u.Public[1:] }, "public area: damaged"},
	} {
		k := readFixture(t, "e2-p256-pcr")
		c.change(k)
		if got := rowText(k); !strings.Contains(got, c.want) {
			t.Errorf("%s:\n%s", name, got)
		}
	}
}

func TestTSS2RowsOfOldFiles(t *testing.T) {
	k := readFixture(t, "e2-p256-81000001")
	old, err := k.Marshal(blob.TSS2BlobPEM)
	if err != nil {
		t.Fatal(err)
	}
	again, err := blob.Parse(old)
	if err != nil {
		t.Fatal(err)
	}
	if got := rowText(again.(*blob.TSS2)); !strings.HasPrefix(got, "file: loadable key, old form (2.23.133.10.2)\n") {
		t.Errorf("got\n%s", got)
	}
}

// Each row for a key file that blob.Parse reads has a name and a text.
func FuzzTSS2Rows(f *testing.F) {
	for _, name := range []string{"e2-rsa", "e2-p256-pcr", "e2-import-ec", "e2-sealed", "tools-rsa"} {
		f.Add(tpmtest.Fixture(f, "tpm2/"+name+".pem"))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		key, _ := blob.Parse(data)
		k, ok := key.(*blob.TSS2)
		if !ok {
			return
		}
		for _, row := range tss2Rows(k) {
			if row.what == "" || row.how == "" {
				t.Errorf("row %q", row)
			}
		}
	})
}

// TestWeakKey: inspect and status warn of a key with the ROCA fingerprint.
func TestWeakKey(t *testing.T) {
	block, _ := pem.Decode(tpmtest.Fixture(t, "roca/private.pem"))
	private, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	modulus := private.(*rsa.PrivateKey).N.Bytes()
	old, err := blob.Parse(tpmtest.Fixture(t, "tpm12-tutorial/maclef"))
	if err != nil {
		t.Fatal(err)
	}
	old.(*blob.TPMKey).Modulus = modulus
	kept := &blob.TSS2{Public: rsaArea(2048, 0, modulus)}
	const want = "ROCA, CVE-2017-15361"
	sealed := &blob.TPMSealed{Key: old.(*blob.TPMKey), AESKey: slices.Concat([]byte{1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0}, ones(256)), Ciphertext: ones(16)}
	for _, k := range []blob.Key{old, kept, sealed} {
		rows, err := keyRows(k)
		if err != nil {
			t.Fatal(err)
		}
		if last := rows[len(rows)-1]; last.what != "warning" || !strings.Contains(last.how, want) {
			t.Errorf("%T: inspect ends with %q", k, last)
		}
	}
	if text := keptText(kept); !strings.Contains(text, want) {
		t.Errorf("status says %q", text)
	}
	if text := keptText(&blob.TSS2{Public: rsaArea(2048, 0, ones(256))}); strings.Contains(text, want) {
		t.Errorf("status says of another key: %q", text)
	}
}
