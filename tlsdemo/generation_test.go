package main

import (
	"testing"

	"maclef/internal/tpmtest"
)

// A generation is TPMs with recorded keys. The SRK of a TPM 1.2's has the empty
// password.
type generation struct {
	family string
	state  tpmtest.State
	keys   map[string]string // their files, by those of a TPM 1.2

	tls, cipher, signature string // what a client gets from maclef that can everything
	wrong                  string // the result code for a wrong secret
}

var (
	gen12 = generation{"1.2", tpmtest.Tutorial, map[string]string{
		"maclef": "tpm12-tutorial/maclef", "rsa1024": "tpm12-tutorial/rsa1024",
		"auth": "tpm12-tutorial/auth", "auth counted": "tpm12-tutorial/auth",
		"other auth": "tpm12-tutorial/wrapped-auth",
	}, "TLS 1.2", "TLS_ECDHE_RSA_", "rsa_pkcs1_sha256", "TPM_AUTHFAIL"}
	gen20 = generation{"2.0", tpmtest.Keys20, map[string]string{
		"maclef": "tpm2/e2-rsa.pem", "rsa1024": "tpm2/e2-p256.pem",
		"auth": "tpm2/e2-rsa-auth.pem", "auth counted": "tpm2/e2-rsa-auth-da.pem",
		"other auth": "tpm2/e2-rsa-auth-da.pem",
	}, "TLS 1.3", "TLS_AES_", "rsa_pss_rsae_sha256", "TPM_RC_AUTH_FAIL"}
)

// newRig takes a recorded key of a TPM 2.0, which starts faster than a TPM 1.2; keySecret is nil
// for a key without one.
func newRig(t *testing.T, fixture string, keySecret []byte) *rig {
	t.Helper()
	return gen20.rig(t, fixture, keySecret)
}

// both runs a test with a recorded key of a TPM 1.2, and with its like of a TPM 2.0.
func both(t *testing.T, fixture string, keySecret []byte, test func(*testing.T, *rig)) {
	for _, g := range []generation{gen12, gen20} {
		t.Run(g.family, func(t *testing.T) {
			if g.family == "1.2" {
				tpmtest.Long(t, tpmtest.Slow12)
			}
			test(t, g.rig(t, fixture, keySecret))
		})
	}
}

// rig takes any recorded key.
func (g generation) rig(t *testing.T, fixture string, keySecret []byte) *rig {
	t.Helper()
	if like, ok := g.keys[fixture]; ok {
		fixture = like
	}
	r := &rig{generation: g, t: t, swtpm: tpmtest.Start(t, g.state), key: tpmtest.FixturePath(t, fixture)}
	r.certify(keySecret)
	return r
}
