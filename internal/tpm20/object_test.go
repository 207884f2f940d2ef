package tpm20_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"testing"

	"github.com/google/go-tpm/tpm2"

	"maclef/internal/tpm20"
)

func TestLoad(t *testing.T) {
	t.Parallel()
	conn, tap, sw := start(t)
	parent := primary(t, conn, false)
	private, public := createBlobs(t, conn, parent, eccKey, "", nil)
	key, err := conn.Load(parent, nil, private, public)
	if err != nil {
		t.Fatal(err)
	}
	read, err := conn.ReadPublic(key.Handle)
	if err != nil || !bytes.Equal(read.Name.Buffer, key.Name.Buffer) || !bytes.Equal(tpm2.Marshal(*read.Public), tpm2.Marshal(*key.Public)) {
		t.Errorf("%+v, %v", read, err)
	}
	for name, blobs := range map[string][2][]byte{
		"private short":  {private[:len(private)-1], public},
		"private long":   {append(bytes.Clone(private), 0), public},
		"public short":   {private, public[:len(public)-1]},
		"public empty":   {private, tpm2b(nil)},
		"nothing":        {nil, nil},
		"public goes on": {private, tpm2b(append(bytes.Clone(public[2:]), 0))},
		"no point":       {private, tpm2b(flipped(public[2:], 4))},
	} {
		tap.Reset()
		_, err := conn.Load(parent, nil, blobs[0], blobs[1])
		var unanswered *tpm20.Unanswered
		if err == nil || errors.As(err, &unanswered) || tap.Count() != 0 {
			t.Errorf("%s: %v", name, err)
		}
	}
	other, err := conn.CreatePrimary(tpm2.TPMRHOwner, nil, storage(true))
	if err != nil {
		t.Fatal(err)
	}
	conn.EndSessions()
	conn.Flush(key.Handle)
	if _, err := conn.Load(other, nil, private, public); !errors.Is(err, tpm2.TPMRCIntegrity) || err.Error() != "TPM2_Load: TPM_RC_INTEGRITY (0x1df, parameter 1)" {
		t.Error(err)
	}
	saved, err := conn.SaveContext(parent)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := conn.LoadContext(saved[:len(saved)-1], parent); err == nil {
		t.Error("loaded half a context")
	}
	if _, err := conn.LoadContext(flipped(saved, 9), parent); !errors.Is(err, tpm2.TPMRCIntegrity) {
		t.Error(err)
	}
	tap.Close()
	sw.Restart()
	tap = dial(t, sw)
	if _, err := tpm20.New(tap).LoadContext(saved, parent); !isRefused(err) {
		t.Error(err)
	}
	if _, err := tpm20.New(tap).Load(parent, nil, private, public); !errors.Is(err, tpm2.TPMRCReferenceH0) {
		t.Error(err)
	}
}

func isRefused(err error) bool {
	var refused *tpm20.Error
	return errors.As(err, &refused)
}

// flipped changes a byte, counted from the end.
func flipped(b []byte, fromEnd int) []byte {
	b = bytes.Clone(b)
	b[len(b)-fromEnd] ^= 1
	return b
}

// A TPM, or who stands before it, that answers for another object than the one that
// was asked for is not believed.
func TestAnotherObject(t *testing.T) {
	t.Parallel()
	conn, tap := open(t)
	parent := primary(t, conn, false)
	mine, public := createBlobs(t, conn, parent, eccKey, "", nil)
	conn.EndSessions()
	tap.After = func(_ int, cmd, rsp []byte, err error) ([]byte, error) {
		switch tpm2.TPMCC(binary.BigEndian.Uint32(cmd[6:])) {
		case tpm2.TPMCCLoad, tpm2.TPMCCCreatePrimary, tpm2.TPMCCReadPublic:
			rsp[len(rsp)-8] ^= 1 // of the name, or of the qualified one
			if n := len(rsp); rsp[1] == 1 {
				rsp[n-50] ^= 1
			}
		}
		return rsp, err
	}
	var unanswered *tpm20.Unanswered
	if _, err := conn.Load(parent, nil, mine, public); !errors.As(err, &unanswered) {
		t.Error(err)
	}
	if _, err := conn.CreatePrimary(tpm2.TPMRHOwner, nil, storage(false)); !errors.As(err, &unanswered) {
		t.Error(err)
	}
	if _, err := conn.ReadPublic(parent.Handle); !errors.As(err, &unanswered) {
		t.Error(err)
	}
	tap.After = nil
	wantLoaded(t, tap, 3, 0)
	for _, handle := range []tpm2.TPMHandle{0x80000001, 0x80000002} { // nobody else knows of them
		if err := conn.Flush(handle); err != nil {
			t.Error(err)
		}
	}
	wantLoaded(t, tap, 1, 0)
	// The answer to one template for another.
	other := storage(false)
	other.ObjectAttributes.NoDA = false
	tap.Reset()
	o, err := conn.CreatePrimary(tpm2.TPMRHOwner, nil, other)
	if err != nil {
		t.Fatal(err)
	}
	conn.Flush(o.Handle)
	answer := tap.Exchanges()[0].Response
	if _, err := answering(answer).CreatePrimary(tpm2.TPMRHOwner, nil, storage(false)); !errors.As(err, &unanswered) {
		t.Error(err)
	}
	if _, err := answering(answer).CreatePrimary(tpm2.TPMRHOwner, nil, other); err != nil {
		t.Error(err)
	}
}

// A key that was made elsewhere is imported, loaded, and signs.
func TestImport(t *testing.T) {
	t.Parallel()
	for _, rsaParent := range []bool{false, true} {
		conn, _ := open(t)
		parent := primary(t, conn, rsaParent)
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		public := eccKey
		public.ObjectAttributes.FixedTPM, public.ObjectAttributes.FixedParent, public.ObjectAttributes.SensitiveDataOrigin = false, false, false
		public.Unique = tpm2.NewTPMUPublicID(tpm2.TPMAlgECC, &tpm2.TPMSECCPoint{
			X: tpm2.TPM2BECCParameter{Buffer: key.X.FillBytes(make([]byte, 32))},
			Y: tpm2.TPM2BECCParameter{Buffer: key.Y.FillBytes(make([]byte, 32))},
		})
		sensitive := tpm2.TPMTSensitive{
			SensitiveType: tpm2.TPMAlgECC, AuthValue: tpm2.TPM2BAuth{Buffer: []byte("pw")},
			Sensitive: tpm2.NewTPMUSensitiveComposite(tpm2.TPMAlgECC, &tpm2.TPM2BECCParameter{Buffer: key.D.FillBytes(make([]byte, 32))}),
		}
		to, err := tpm2.ImportEncapsulationKey(parent.Public)
		if err != nil {
			t.Fatal(err)
		}
		name, _ := tpm2.ObjectName(&public)
		duplicate, seed, err := tpm2.CreateDuplicate(rand.Reader, to, name.Buffer, tpm2.Marshal(sensitive))
		if err != nil {
			t.Fatal(err)
		}
		area := tpm2.Marshal(tpm2.New2B(public))
		private, err := conn.Import(parent, nil, area, tpm2b(duplicate), tpm2b(seed))
		if err != nil {
			t.Fatal(err)
		}
		o, err := conn.Load(parent, nil, private, area)
		if err != nil {
			t.Fatal(err)
		}
		sig, err := conn.Sign(o, session(t, conn, parent).For([]byte("pw"), 0), ecdsaSHA256, message[:], nil)
		if err != nil {
			t.Fatal(err)
		}
		verify(t, o, message[:], sig)
		if _, err := conn.Import(parent, nil, area, tpm2b(flipped(duplicate, 1)), tpm2b(seed)); !errors.Is(err, tpm2.TPMRCIntegrity) {
			t.Error(err)
		}
	}
}

// Flush of an object that is gone is no error. LoadContext without a free slot is an error reply.
func TestContexts(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	saved, err := f.conn.SaveContext(f.key)
	if err != nil {
		t.Fatal(err)
	}
	second, err := f.conn.LoadContext(saved, f.key)
	if err != nil || second.Handle == f.key.Handle {
		t.Fatal(second, err)
	}
	if _, err := f.conn.LoadContext(saved, f.key); !errors.Is(err, tpm2.TPMRCObjectMemory) {
		t.Error(err)
	}
	wantLoaded(t, f.tap, 3, 0)
	for range 2 {
		if err := f.conn.Flush(second.Handle); err != nil {
			t.Error(err)
		}
		wantLoaded(t, f.tap, 2, 0)
	}
	tpm20.New(f.tap).Flush(f.parent.Handle)
	_, err = f.conn.Load(f.parent, nil, tpm2b(nil), tpm2.Marshal(tpm2.New2B(*f.key.Public)))
	var refused *tpm20.Error
	if !errors.As(err, &refused) || !errors.Is(err, tpm2.TPMRCReferenceH0) || refused.Gone != f.parent.Handle {
		t.Error(err)
	}
	f.session = mustStart(f.conn.StartHMAC(nil, nil, nil))
	f.mustSign() // the key is there still
}
