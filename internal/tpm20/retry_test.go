package tpm20_test

import (
	"bytes"
	"slices"
	"testing"
	"time"

	"github.com/google/go-tpm/tpm2"

	"maclef/internal/tpm20"
	"maclef/internal/tpmtest"
)

// A busy TPM gets the same bytes again, and the session goes on.
func TestBusyTPM(t *testing.T) {
	tpmtest.Long(t, tpmtest.Waits)
	t.Parallel()
	const ccSelfTest = uint32(tpm2.TPMCCSelfTest)
	for code, want := range map[tpm2.TPMRC][]uint32{
		tpm2.TPMRCRetry:     {ccSign, ccSign, ccSign, ccSign},
		tpm2.TPMRCYielded:   {ccSign, ccSign, ccSign, ccSign},
		tpm2.TPMRCTesting:   {ccSign, ccSign, ccSign, ccSign},
		tpm2.TPMRCNVRate:    {ccSign, ccSign, ccSign, ccSign},
		tpm2.TPMRCNeedsTest: {ccSign, ccSelfTest, ccSign, ccSign, ccSign},
	} {
		t.Run(code.Error(), func(t *testing.T) {
			f := newFixture(t)
			f.mustSign()
			f.conn.Patience = time.Hour
			f.refuse(code, 3)
			f.tap.Reset()
			f.mustSign()
			if got := commands(f.tap); !slices.Equal(got, want) {
				t.Errorf("commands %#x, want %#x", got, want)
			}
			log := f.tap.Exchanges()
			if !bytes.Equal(log[0].Command, log[len(log)-1].Command) {
				t.Error("other bytes were sent again")
			}
			if n := tries(t, f.conn); n != 0 {
				t.Errorf("%d tries counted", n)
			}
			f.tap.Reset()
			f.mustSign()
			wantCommands(t, f.tap, ccSign)
		})
	}
}

// The first signature by RSA after a start is the one that a real TPM puts off.
func TestFirstSignatureAfterStart(t *testing.T) {
	t.Parallel()
	conn, tap, sw := start(t)
	parent := primary(t, conn, false)
	private, public := createBlobs(t, conn, parent, rsaKey, "", nil)
	tap.Close()
	sw.Restart()
	tap = dial(t, sw)
	conn = tpm20.New(tap)
	key, err := conn.Load(primary(t, conn, false), nil, private, public)
	if err != nil {
		t.Fatal(err)
	}
	scheme := tpm2.TPMTSigScheme{Scheme: tpm2.TPMAlgRSASSA, Details: tpm2.NewTPMUSigScheme(tpm2.TPMAlgRSASSA, &tpm2.TPMSSchemeHash{HashAlg: tpm2.TPMAlgSHA256})}
	tap.Reset()
	sig, err := conn.Sign(key, nil, scheme, message[:], nil)
	if err != nil {
		t.Fatal(err)
	}
	if s, err := sig.Signature.RSASSA(); err != nil || len(s.Sig.Buffer) != 256 {
		t.Error(s, err)
	}
	t.Logf("commands %#x", commands(tap))
}

// always answers every command with a code, and counts.
type always struct {
	code tpm2.TPMRC
	n    int
}

func (a *always) Send([]byte) ([]byte, error) {
	a.n++
	return errorReply(a.code), nil
}

// Every other error reply is final.
func TestNothingElseIsSentAgain(t *testing.T) {
	t.Parallel()
	for _, code := range []tpm2.TPMRC{
		tpm2.TPMRCInitialize, tpm2.TPMRCLockout, tpm2.TPMRCObjectMemory, tpm2.TPMRCSessionMemory, tpm2.TPMRCSessionHandles,
		tpm2.TPMRCMemory, tpm2.TPMRCCanceled, tpm2.TPMRCNVUnavailable, tpm2.TPMRCAuthFail | 0x900, tpm2.TPMRCCommandCode,
		tpm2.TPMRCValue | 0x100, 0x1, 0xffffffff,
	} {
		tpm := &always{code: code}
		if _, err := tpm20.New(tpm).GetRandom(1); err == nil || tpm.n != 1 {
			t.Errorf("%v: %v after %d commands", code, err, tpm.n)
		}
	}
}
