package tpmkey

import (
	"crypto"
	"crypto/sha256"
	"sync"
	"testing"

	"maclef/blob"
	"maclef/internal/tpmtest"
)

// A bad signature at the first use of a secret is judged like everything else: no other
// operation has the TPM meanwhile.
func TestBadResultIsJudgedInTheQueue(t *testing.T) {
	sw := tpmtest.Start(t, tpmtest.Keys20)
	tpm, err := Open(sw.Socket)
	if err != nil {
		t.Fatal(err)
	}
	file, err := blob.Parse(tpmtest.Fixture(t, "tpm2/e2-rsa-auth-da.pem"))
	if err != nil {
		t.Fatal(err)
	}
	load := func() *Key {
		k, err := tpm.Load(file, &LoadOptions{Key: Password([]byte("motdepasse"))})
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
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
			if _, err := other.Sign(nil, d[:], crypto.SHA256); err != nil {
				t.Error("other:", err)
				return
			}
		}
	}()
	for range 20 {
		k := load()
		s, _ := k.abilities.checkSign(d[:], crypto.SHA256)
		n := 0
		w := k.work(func(in loadedKey, secret authData) ([]byte, error) { return in.sign(s, secret) })
		w.verify = func(sig []byte) error {
			if n++; n == 1 {
				return errBadSignature
			}
			return s.verify(sig)
		}
		if _, err := tpm.do(w); err != nil {
			t.Error(err)
		}
		k.Close()
	}
	close(stop)
	wg.Wait()
	if err := tpm.Close(); err != nil {
		t.Error(err)
	}
}
