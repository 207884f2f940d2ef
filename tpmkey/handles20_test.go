package tpmkey_test

import (
	"crypto"
	"slices"
	"testing"

	"maclef/blob"
	"maclef/internal/tpmtest"
	"maclef/tpmkey"
)

// A file that stands for a handle is a key that the TPM keeps, if the public areas agree.
func TestFileOfHandle(t *testing.T) {
	t.Parallel()
	const handle = 0x81010002
	sw := tpmtest.Start(t, tpmtest.TPM20)
	sw.KeepAt(handle, signingKey(), "motdepasse")
	sw.KeepAt(handle+1, *kind20{sign: true}.area(), "")
	tpm := openName(t, sw.Socket)
	kept, err := tpm.ReadHandle(t.Context(), handle)
	if err != nil {
		t.Fatal(err)
	}
	read := func(private string) blob.Key {
		file := *kept.(*blob.TSS2)
		file.Parent, file.Private = 0x40000001, []byte(private)
		file.Handle = 0x81010000 | uint32(private[1])
		der, err := file.Marshal(blob.TSS2DER)
		if err != nil {
			t.Fatal(err)
		}
		k, err := blob.Parse(der)
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	key, err := tpm.Load(t.Context(), read("\x00\x02\x01\x81"), &tpmkey.LoadOptions{Auth: motdepasse()})
	if err != nil {
		t.Fatal(err)
	}
	mustSign(t, key)
	_, err = tpm.Load(t.Context(), read("\x00\x03\x01\x81\x00"), nil)
	tpmtest.WantError(t, err, tpmkey.ErrWrongTPM, "keeps it at 0x81010003, and another key is there")
	_, err = tpm.Load(t.Context(), read("\x00\x04\x01\x81\x00\x00"), nil)
	tpmtest.WantError(t, err, tpmkey.ErrNoKey, "0x81010004")
	wantTries(t, tpm, 0)
}

// An ESYS object does not say whether its key has a secret, even if the TPM counts no wrong ones.
func TestESYSObjectWithSecret(t *testing.T) {
	t.Parallel()
	const handle = 0x81010002
	sw := tpmtest.Start(t, tpmtest.TPM20)
	sw.KeepAt(handle, signingKey(), "motdepasse")
	tpm := openName(t, sw.Socket)
	kept, err := tpm.ReadHandle(t.Context(), handle)
	if err != nil {
		t.Fatal(err)
	}
	name, err := kept.(*blob.TSS2).Name()
	if err != nil {
		t.Fatal(err)
	}
	file, err := blob.Parse(slices.Concat([]byte{0x81, 1, 0, 2, 0, byte(len(name))}, name, []byte{0, 0, 0, 1}, kept.(*blob.TSS2).Public))
	if err != nil {
		t.Fatal(err)
	}
	key, err := tpm.Load(t.Context(), file, nil)
	if err == nil {
		_, err = key.Sign(nil, make([]byte, 32), crypto.SHA256)
	}
	tpmtest.WantError(t, err, tpmkey.ErrSecretNeeded, "")
	if key, err = tpm.Load(t.Context(), file, &tpmkey.LoadOptions{Auth: motdepasse()}); err != nil {
		t.Fatal(err)
	}
	mustSign(t, key)
	wantTries(t, tpm, 0)
}

func TestParseHandle(t *testing.T) {
	for name, want := range map[string]struct {
		handle  uint32
		ok, bad bool
	}{
		"0x81010001": {0x81010001, true, false}, "handle:0x81010001": {0x81010001, true, false}, "handle:2164260865": {0x81000001, true, false},
		"0x80000000": {0, true, true}, "handle:1": {0, true, true}, "handle:maclef": {0, true, true},
		"maclef": {}, "0x81": {}, "./0x81010001": {}, "0x8101000g": {}, "2164260865": {}, "0123456701": {}, "0b10000001": {}, "0x81010001.pem": {}, "": {},
	} {
		if handle, ok, err := tpmkey.ParseHandle(name); handle != want.handle || ok != want.ok || (err != nil) != want.bad {
			t.Errorf("%q: %#x, %v, %v", name, handle, ok, err)
		}
	}
}
