package tpmkey_test

import (
	"encoding/binary"
	"testing"

	"github.com/google/go-tpm/tpm2"

	"maclef/internal/tpmtest"
)

// A world is a generation of TPMs, for tests of what is the same in both.
type world struct {
	name  string
	state tpmtest.State
	// Recorded keys, which all sign with one command of the same name: without a secret,
	// with one, and an RSA key with one whose wrong tries the TPM counts.
	plain, secret, counted string
	sign, getCap           uint32 // commands
}

var worlds = []world{
	{"1.2", tpmtest.Tutorial, "maclef", "auth", "auth", ordSign, ordGetCap},
	{"2.0", tpmtest.Keys20, "pv-p256", "e2-p256-auth", "pv-rsa-auth", uint32(tpm2.TPMCCSign), uint32(tpm2.TPMCCGetCapability)},
}

func (w world) is20() bool { return w.name == "2.0" }

// path is that of a recorded key's file.
func (w world) path(t *testing.T, name string) string {
	if w.is20() {
		return tpmtest.FixturePath(t, "tpm2/"+name+".pem")
	}
	return tpmtest.FixturePath(t, "tpm12-tutorial/"+name)
}

// inBoth runs a test in both generations, in that of TPM 2.0 only with -short.
func inBoth(t *testing.T, test func(t *testing.T, w world)) {
	for _, w := range worlds {
		t.Run(w.name, func(t *testing.T) {
			if !w.is20() {
				tpmtest.Long(t, tpmtest.Slow12)
			}
			test(t, w)
		})
	}
}

// commandOf is which command some bytes are.
func commandOf(cmd []byte) uint32 { return binary.BigEndian.Uint32(cmd[6:]) }
