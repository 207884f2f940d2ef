package keymgr

import (
	"crypto"
	"crypto/sha256"
	"sync"
	"testing"

	"maclef/blob"
	"maclef/internal/chip"
	"maclef/internal/tpmtest"
)

// After a bad signature at the first use of a secret, the count is read before another
// operation gets the TPM.
func TestBadSignatureIsCheckedInTheTurn(t *testing.T) {
	sw := tpmtest.Start(t, tpmtest.Keys20)
	m := openSocket(t, sw.Socket)
	file, err := blob.Parse(tpmtest.Fixture(t, "tpm2/e2-rsa-auth-da.pem"))
	if err != nil {
		t.Fatal(err)
	}
	load := func() *Key { return loadKey(t, m, file, Password([]byte("motdepasse"))) }
	other := load()
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Add(1)
	d := sha256.Sum256([]byte("x"))
	go func() {
		defer wg.Done()
		for {
			select {
			case <-stop:
				return
			default:
			}
			op, err := other.Ops.Sign(d[:], crypto.SHA256)
			if err == nil {
				_, err = m.Do(&Work{Key: other, Op: op})
			}
			if err != nil {
				t.Error("other:", err)
				return
			}
		}
	}()
	for range 20 {
		k := load()
		op, _ := k.Ops.Sign(d[:], crypto.SHA256)
		n := 0
		odd := &chip.Operation{Run: op.Run, Verify: func(sig []byte) error {
			if n++; n == 1 {
				return chip.ErrBadSignature
			}
			return op.Verify(sig)
		}}
		if _, err := m.Do(&Work{Key: k, Op: odd}); err != nil {
			t.Error(err)
		}
		k.Close()
	}
	close(stop)
	wg.Wait()
	if err := m.Close(); err != nil {
		t.Error(err)
	}
}
