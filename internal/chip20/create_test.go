package chip20

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-tpm/tpm2"

	"maclef/internal/chip"
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
