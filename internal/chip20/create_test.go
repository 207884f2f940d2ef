package chip20

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-tpm/tpm2"

	"maclef/internal/chip"
	"maclef/internal/policy"
	"maclef/internal/tpm20"
)

// Chips that take no other exponent than 65537 answer TPM_RC_VALUE or TPM_RC_RANGE; swtpm takes
// others.
func TestExplainExponent(t *testing.T) {
	refused := func(code tpm2.TPMRC) error { return &tpm20.Error{Command: tpm2.TPMCCImport, Code: code} }
	for name, c := range map[string]struct {
		key  crypto.PrivateKey
		err  error
		want string // part of the text, empty for err itself
	}{
		"range":          {&rsa.PrivateKey{PublicKey: rsa.PublicKey{E: 17}}, refused(tpm2.TPMRCRange), "refuses the public exponent 17"},
		"value":          {&rsa.PrivateKey{PublicKey: rsa.PublicKey{E: 17}}, refused(tpm2.TPMRCValue), "refuses the public exponent 17"},
		"usual exponent": {&rsa.PrivateKey{PublicKey: rsa.PublicKey{E: 65537}}, refused(tpm2.TPMRCValue), ""},
		"other reason":   {&rsa.PrivateKey{PublicKey: rsa.PublicKey{E: 17}}, refused(tpm2.TPMRCLockout), ""},
		"ECC":            {&ecdsa.PrivateKey{}, refused(tpm2.TPMRCValue), ""},
	} {
		err := explainExponent(c.key, c.err)
		switch {
		case c.want == "" && err != c.err:
			t.Errorf("%s: %v", name, err)
		case c.want != "" && (!strings.Contains(err.Error(), c.want) || !errors.Is(err, chip.ErrNotWrappable) || !errors.Is(err, c.err)):
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := explainExponent(&rsa.PrivateKey{}, nil); err != nil {
		t.Error(err)
	}
}

// Nothing is made that its policy makes useless.
func TestNewPolicy(t *testing.T) {
	key, data := &chip.Spec{}, &chip.Spec{Seal: []byte("data")}
	ec, wrapped := &chip.Spec{Type: chip.P256}, &chip.Spec{Wrap: &ecdsa.PrivateKey{PublicKey: ecdsa.PublicKey{Curve: elliptic.P384()}}}
	for _, c := range []struct {
		spec   *chip.Spec
		policy string
		want   string // part of the text, empty for none
	}{
		{key, "pcr:7+command:sign", ""},
		{key, "command:rsadecrypt+command:rsadecrypt", ""},
		{key, "command:certify", ""},
		{key, "command:0x158", ""}, // TPM2_Quote
		{key, "command:ecdhzgen", "the RSA key with the policy command:ecdhzgen: it allows TPM2_ECDH_ZGen alone"},
		{key, "command:unseal", "TPM2_Unseal alone"},
		{data, "command:duplicate", "TPM2_Duplicate alone"},
		{key, "command:sign+pcr:7+command:rsadecrypt", "and then another one alone"},
		{ec, "command:ecdhzgen", ""},
		{ec, "command:rsadecrypt", "the EC key with the policy command:rsadecrypt: it allows TPM2_RSA_Decrypt alone"},
		{wrapped, "command:rsadecrypt", "the EC key"},
		{data, "command:unseal+pcr:7", ""},
		{data, "pcr:7+command:sign", "nobody could use the sealed data with the policy pcr:sha256:7+command:sign: it allows TPM2_Sign alone, which does nothing with it"},
		{data, "command:certify", "TPM2_Certify alone"},
		{data, "command:0x99", "TPM command 0x99 alone"},
	} {
		steps, err := policy.ParseSteps(c.policy)
		if err != nil {
			t.Fatal(err)
		}
		spec := *c.spec
		spec.Policy = steps
		err = checkNewPolicy(&spec)
		if c.want == "" && err != nil || c.want != "" && (!errors.Is(err, chip.ErrNotSupported) || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: %v", c.policy, err)
		}
	}
}
