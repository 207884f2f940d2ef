package tpmkey_test

import (
	"encoding/binary"
	"testing"

	"github.com/google/go-tpm/tpm2"

	"maclef/internal/tpmtest"
)

// A generation has the recorded keys and the commands of one generation of TPMs, for
// tests of what is the same in both.
type generation struct {
	name  string
	state tpmtest.State
	// Recorded keys, which all sign with one command of the same name: without a secret,
	// with one, and an RSA key with one whose wrong tries the TPM counts.
	plain, secret, counted string
	sign, getCap           uint32 // commands
}

var generations = []generation{
	{"1.2", tpmtest.Tutorial, "maclef", "auth", "auth", ordSign, ordGetCap},
	{"2.0", tpmtest.Keys20, "pv-p256", "e2-p256-auth", "pv-rsa-auth", uint32(tpm2.TPMCCSign), uint32(tpm2.TPMCCGetCapability)},
}

func (gen generation) is20() bool { return gen.name == "2.0" }

// path is that of a recorded key's file.
func (gen generation) path(t *testing.T, name string) string {
	if gen.is20() {
		return tpmtest.FixturePath(t, "tpm2/"+name+".pem")
	}
	return tpmtest.FixturePath(t, "tpm12-tutorial/"+name)
}

// inBoth runs a test in both generations, in that of TPM 2.0 only with -short.
func inBoth(t *testing.T, test func(t *testing.T, gen generation)) {
	for _, gen := range generations {
		t.Run(gen.name, func(t *testing.T) {
			if !gen.is20() {
				tpmtest.Long(t, tpmtest.Slow12)
			}
			test(t, gen)
		})
	}
}

// commandOf is which command some bytes are.
func commandOf(cmd []byte) uint32 { return binary.BigEndian.Uint32(cmd[6:]) }
