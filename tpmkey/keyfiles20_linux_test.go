package tpmkey_test

import (
	"bytes"
	"errors"
	"slices"
	"sync"
	"testing"

	"github.com/google/go-tpm/tpm2"

	"maclef/blob"
	"maclef/internal/chip"
	"maclef/internal/tpmtest"
	"maclef/tpmkey"
)

// A wrong secret costs one try for each key that was given it, however many use it.
func TestWrongSecretAtOnce20(t *testing.T) {
	t.Parallel()
	sw := tpmtest.Start(t, tpmtest.Keys20)
	sw.Send(tpmtest.LockoutParameters(10, 1000, 1000))
	tpm := openName(t, sw.Socket)
	wrong := tpmkey.Password([]byte("faux"))
	keys := []*tpmkey.Key{loadWith(t, tpm, "pv-rsa-auth", tpmkey.Secret{}, wrong), loadWith(t, tpm, "e2-rsa-auth-da", tpmkey.Secret{}, wrong)}
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			if err := signs(keys[i%2], i); !errors.Is(err, tpmkey.ErrWrongKeySecret) {
				t.Error(err)
			}
		}()
	}
	wg.Wait()
	wantTries(t, tpm, 2)
}

// Files that this TPM has no use for are refused in words, and cost no try.
func TestFilesOfOthers20(t *testing.T) {
	t.Parallel()
	tpm := openState(t, tpmtest.TPM20)
	curve := fixture20(t, "pv-p256")
	if at := bytes.Index(curve.Public, []byte{0, 0x10, 0, 0x03}); at < 0 {
		t.Fatal("no curve in the fixture")
	} else {
		curve.Public[at+3] = 0x10 // TPM_ECC_BN_P256
	}
	for _, c := range []struct {
		name string
		file blob.Key
		kind error
		word string
	}{
		{"another TPM's", fixture20(t, "pv-p256"), tpmkey.ErrWrongTPM, "another TPM"},
		{"another TPM's, with a secret", fixture20(t, "pv-rsa-auth"), tpmkey.ErrWrongTPM, "another TPM"},
		{"missing parent", fixture20(t, "e2-p256-81000001"), tpmkey.ErrNoParent, "0x81000001"},
		{"to be imported", fixture20(t, "e2-import-rsa"), tpmkey.ErrNoParent, "0x81000001"},
		{"sealed", fixture20(t, "e2-sealed"), tpmkey.ErrNotSupported, "sealed data"},
		{"odd curve", curve, tpmkey.ErrNotSupported, "curve"},
		{"TPM 1.2", parseFixture(t, "maclef"), tpmkey.ErrWrongGeneration, "1.2"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := tpm.Load(t.Context(), c.file, &tpmkey.LoadOptions{Auth: never(t)})
			tpmtest.WantError(t, err, c.kind, c.word)
		})
	}
	_, err := tpm.ReadHandle(t.Context(), 0x81000001)
	tpmtest.WantError(t, err, tpmkey.ErrNoKey, "0x81000001")
	wantTries(t, tpm, 0)
}

// A file with a wrong byte anywhere is refused as damaged, or its public half says less
// than it did, but nothing panics, and no secret is tried.
func TestDamagedFiles20(t *testing.T) {
	tpmtest.Long(t, tpmtest.Stress)
	t.Parallel()
	tpm := openState(t, tpmtest.Keys20)
	step := 1 // from byte to byte
	if testing.Short() {
		step = 9
	}
	for _, name := range []string{"pv-p256", "e2-p256-81000001", "e2-import-ec"} {
		loaded := 0
		for _, part := range []func(*blob.TSS2) []byte{
			func(t *blob.TSS2) []byte { return t.Public }, func(t *blob.TSS2) []byte { return t.Private }, func(t *blob.TSS2) []byte { return t.Secret },
		} {
			for i := 0; i < len(part(fixture20(t, name))); i += step {
				file := fixture20(t, name)
				part(file)[i] ^= 0x81
				k, err := tpm.Load(t.Context(), file, &tpmkey.LoadOptions{Auth: never(t)})
				switch {
				case err == nil:
					loaded++
					k.Close()
				case errors.Is(err, chip.ErrUnloaded), errors.Is(err, tpmkey.ErrGone), errors.Is(err, tpmkey.ErrWrongSRKSecret):
					t.Errorf("%s, byte %d: %v", name, i, err)
				}
			}
		}
		if loaded > 0 {
			t.Errorf("%s: loaded with %d wrong bytes", name, loaded)
		}
		mustSign(t, loadWith(t, tpm, name, tpmkey.Secret{}, tpmkey.Secret{}))
	}
	wantTries(t, tpm, 0)
}

// persist makes a key that the TPM keeps itself, in place of what was there.
func persist(t *testing.T, p *tpmtest.Proxy, handle tpm2.TPMHandle, kind kind20, seed byte) {
	t.Helper()
	area := kind.area()
	if kind.curve != 0 {
		area.Unique = tpm2.NewTPMUPublicID(tpm2.TPMAlgECC, &tpm2.TPMSECCPoint{X: tpm2.TPM2BECCParameter{Buffer: bytes.Repeat([]byte{seed}, 32)}})
	}
	owner := tpm2.AuthHandle{Handle: tpm2.TPMRHOwner, Auth: tpm2.PasswordAuth(nil)}
	if old, err := (tpm2.ReadPublic{ObjectHandle: handle}).Execute(p); err == nil {
		evict := tpm2.EvictControl{Auth: owner, ObjectHandle: &tpm2.NamedHandle{Handle: handle, Name: old.Name}, PersistentHandle: handle}
		if _, err := evict.Execute(p); err != nil {
			t.Fatal(err)
		}
	}
	made, err := tpm2.CreatePrimary{PrimaryHandle: owner, InPublic: tpm2.New2B(*area)}.Execute(p)
	if err != nil {
		t.Fatal(err)
	}
	keep := tpm2.EvictControl{Auth: owner, ObjectHandle: &tpm2.NamedHandle{Handle: made.ObjectHandle, Name: made.Name}, PersistentHandle: handle}
	if _, err := keep.Execute(p); err != nil {
		t.Fatal(err)
	}
	if _, err := (tpm2.FlushContext{FlushHandle: made.ObjectHandle}).Execute(p); err != nil {
		t.Fatal(err)
	}
}

// A key that the TPM keeps is used by its handle; one that was put in its place is not
// taken for it.
func TestPersistentKey20(t *testing.T) {
	t.Parallel()
	tpm, p := openKeys20(t)
	kind := kind20{sign: true, decrypt: true, curve: tpm2.TPMECCNistP256}
	persist(t, p, 0x81000010, kind, 1)
	if s, err := tpm.Status(t.Context()); err != nil || !slices.Contains(s.Persistent, 0x81000010) {
		t.Errorf("%+v, %v", s, err)
	}
	k, err := tpm.LoadFile(t.Context(), "handle:0x81000010", nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		mustSign(t, k, i)
	}
	agrees20(t, k)
	if err := k.Close(); err != nil {
		t.Error(err)
	}
	if k, err = tpm.LoadFile(t.Context(), "handle:0x81000010", nil); err != nil {
		t.Fatal("gone after Close:", err)
	}
	mustSign(t, k)
	persist(t, p, 0x81000010, kind, 2)
	if err := signs(k); err == nil {
		t.Error("signed with another key")
	}
	k, err = tpm.LoadFile(t.Context(), "handle:0x81000010", nil)
	if err != nil {
		t.Fatal(err)
	}
	mustSign(t, k)
	_, err = tpm.LoadFile(t.Context(), "handle:0x81000099", nil)
	tpmtest.WantError(t, err, tpmkey.ErrNoKey, "0x81000099")
}

// A key may be under any parent, which its file need not name.
func TestParents20(t *testing.T) {
	t.Parallel()
	tpm := openState(t, tpmtest.Keys20)
	for _, parent := range []uint32{0x40000001, 0x40000007, 0x4000000B, 0x81000001} {
		file, err := tpm.Create(t.Context(), &tpmkey.CreateOptions{Type: tpmkey.P256, Parent: parent})
		if err != nil {
			t.Errorf("%#x: %v", parent, err)
			continue
		}
		useAll20(t, tpm, reread(t, file), tpmkey.Secret{})
		file = reread(t, file)
		file.(*blob.TSS2).Parent = 0x81000077
		_, err = tpm.Load(t.Context(), file, nil)
		tpmtest.WantError(t, err, tpmkey.ErrNoParent)
		k, err := tpm.Load(t.Context(), file, &tpmkey.LoadOptions{Parent: parent})
		if err != nil {
			t.Errorf("%#x: %v", parent, err)
			continue
		}
		mustSign(t, k)
	}
}
