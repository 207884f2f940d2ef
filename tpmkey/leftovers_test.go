package tpmkey_test

import (
	"crypto/sha1"
	"testing"

	"maclef/internal/tpm12"
	"maclef/internal/tpmtest"
)

// A session that was opened for a key ends with it: freeing both is no error.
func TestFlushLeftoversFreesKeyWithSession(t *testing.T) {
	t.Parallel()
	tpmtest.Long(t, tpmtest.Slow12)
	sw := tpmtest.Start(t, tpmtest.Tutorial)
	killed := raw(t, sw)
	srk, secret := tpm12.Secret(sha1.Sum(nil)), tpm12.Secret(sha1.Sum([]byte("motdepasse")))
	key, err := killed.LoadKey2(tpm12.SRK, fixture12(t, "auth").Bytes(), &srk)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := killed.OpenKeySession(key, &secret); err != nil {
		t.Fatal(err)
	}
	tpm := openName(t, sw.Socket)
	before, err := tpm.Loaded(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	keys, sessions, err := tpm.FlushOrphans(t.Context(), false)
	if err != nil || keys != 1 || keys+sessions != len(before) {
		t.Errorf("freed %d keys and %d sessions of %+v, %v", keys, sessions, before, err)
	}
	if after, err := tpm.Loaded(t.Context()); err != nil || len(after) != 0 {
		t.Errorf("left: %+v, %v", after, err)
	}
}
