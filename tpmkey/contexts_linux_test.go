package tpmkey_test

import (
	"bytes"
	"context"
	"crypto/ecdh"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"maclef/blob"
	"maclef/internal/contextcache"
	"maclef/internal/tpm20"
	"maclef/internal/tpmtest"
	"maclef/internal/transport"
	"maclef/tpmkey"

	"github.com/google/go-tpm/tpm2"
)

// A shelf is a software TPM behind a proxy that counts, and the folder with its contexts.
type shelf struct {
	t   *testing.T
	sw  *tpmtest.SWTPM
	p   *tpmtest.Proxy
	dir string
}

func newShelf(t *testing.T, state tpmtest.State) *shelf {
	t.Helper()
	s := &shelf{t: t, sw: tpmtest.Start(t, state), dir: useFolder(t, func(string) bool { return true })}
	s.p = tpmtest.StartProxy(t, s.sw)
	return s
}

// program does what a program does that opens the TPM, loads a key, uses it and ends. It
// returns the commands that this took.
func (s *shelf) program(file blob.Key, opts *tpmkey.LoadOptions, use func(*tpmkey.Key) error) []string {
	s.t.Helper()
	s.p.Arm(countOnly, tpmtest.Fault{})
	tpm, err := tpmkey.Open(context.Background(), s.p.Name)
	if err != nil {
		s.t.Fatal(err)
	}
	k, err := tpm.Load(context.Background(), file, opts)
	if err == nil {
		err = use(k)
	}
	if err != nil {
		s.t.Error(err)
	}
	if err := tpm.Close(); err != nil {
		s.t.Error(err)
	}
	var names []string
	for _, e := range s.p.Exchanges() {
		names = append(names, e.Name())
	}
	return names
}

func signOnce(k *tpmkey.Key) error { return signs(k) }

// files are those of the contexts.
func (s *shelf) files() []string {
	s.t.Helper()
	files, err := filepath.Glob(s.dir + "/maclef/*")
	if err != nil {
		s.t.Fatal(err)
	}
	return files
}

// loads are the commands that bring in what has no context.
var loads = []string{"TPM_LoadKey2", "TPM2_Load", "TPM2_CreatePrimary"}

// A diskCase is a key, and the TPM that it is of.
type diskCase struct {
	state tpmtest.State
	file  blob.Key
	opts  *tpmkey.LoadOptions
}

// keysOnDisk are keys whose contexts go to disk.
func keysOnDisk(t *testing.T) map[string]diskCase {
	secret := &tpmkey.LoadOptions{Auth: motdepasse()}
	return map[string]diskCase{
		"1.2":                 {tpmtest.WellKnown, stpm(t, "stpm.key"), nil},
		"2.0, RSA":            {tpmtest.Keys20, fixture20(t, "pv-rsa"), nil},
		"2.0, P-256":          {tpmtest.Keys20, fixture20(t, "pv-p256"), nil},
		"2.0, with a secret":  {tpmtest.Keys20, fixture20(t, "e2-p256-auth"), secret},
		"2.0, counted secret": {tpmtest.Keys20, fixture20(t, "pv-rsa-auth"), secret},
		"2.0, kept parent":    {tpmtest.Keys20, fixture20(t, "pv-p256-81000001"), nil},
	}
}

// A second program loads nothing that the first one has loaded, until the TPM is reset.
func TestSecondProgram(t *testing.T) {
	tpmtest.Long(t, tpmtest.Stress)
	for name, c := range keysOnDisk(t) {
		t.Run(name, func(t *testing.T) {
			if strings.HasPrefix(name, "1.2") {
				tpmtest.Long(t, tpmtest.Slow12)
			}
			s := newShelf(t, c.state)
			first := s.program(c.file, c.opts, signOnce)
			want := 2
			if strings.HasPrefix(name, "1.2") || strings.HasSuffix(name, "kept parent") {
				want = 1 // there is no parent to be made
			}
			if n := len(s.files()); n != want {
				t.Errorf("%d contexts on disk, want %d", n, want)
			}
			second := s.program(c.file, c.opts, signOnce)
			if countOf(second, loads...) > 0 || countOf(first, loads...) == 0 {
				t.Errorf("first: %v, then: %v", first, second)
			}
			if !strings.HasPrefix(name, "1.2") {
				if err := tpm20.New(s.p).Shutdown(); err != nil { // else a TPM 2.0 counts a try
					t.Fatal(err)
				}
			}
			s.sw.Restart()
			third := s.program(c.file, c.opts, signOnce)
			if countOf(third, loads...) == 0 {
				t.Errorf("after a restart: %v", third)
			}
			if fourth := s.program(c.file, c.opts, signOnce); countOf(fourth, loads...) > 0 {
				t.Errorf("after that: %v", fourth)
			}
			wantTries(t, openName(t, s.p.Name), 0)
		})
	}
}

// Contexts of these keys are not kept on disk, and none are with NoCache.
func TestNotOnDisk(t *testing.T) {
	tpmtest.Long(t, tpmtest.Slow12)
	file := fixture20(t, "pv-p256")
	for name, c := range map[string]diskCase{
		"the SRK has a secret":       {tpmtest.Tutorial, parseFixture(t, "maclef"), &tpmkey.LoadOptions{ParentAuth: tutorialSRK()}},
		"1.2, the key has a secret":  {tpmtest.WellKnown, stpm(t, "stpm-pin.key"), &tpmkey.LoadOptions{Auth: tpmkey.Password(nil)}},
		"the hierarchy has a secret": {tpmtest.Owned20, file, &tpmkey.LoadOptions{ParentAuth: tpmkey.Password([]byte("proprio"))}},
	} {
		t.Run(name, func(t *testing.T) {
			s := newShelf(t, c.state)
			s.program(c.file, c.opts, signOnce)
			if files := s.files(); len(files) > 0 {
				t.Errorf("on disk: %v", files)
			}
		})
	}
	t.Run("NoCache", func(t *testing.T) {
		s := newShelf(t, tpmtest.Keys20)
		tpm, err := tpmkey.OpenWithOptions(t.Context(), s.p.Name, &tpmkey.OpenOptions{NoCache: true})
		if err != nil {
			t.Fatal(err)
		}
		if err := signOnce(loadWith(t, tpm, "pv-p256", tpmkey.Secret{}, tpmkey.Secret{})); err != nil {
			t.Error(err)
		}
		if err := tpm.Close(); err != nil {
			t.Error(err)
		}
		if files := s.files(); len(files) > 0 {
			t.Errorf("on disk: %v", files)
		}
	})
}

// Damaged contexts are removed, and the key comes from its file.
func TestDamagedContexts(t *testing.T) {
	tpmtest.Long(t, tpmtest.Stress)
	for name, c := range keysOnDisk(t) {
		t.Run(name, func(t *testing.T) {
			s := newShelf(t, c.state)
			s.program(c.file, c.opts, signOnce)
			for what, damage := range map[string]func([]byte) []byte{
				"empty":            func([]byte) []byte { return nil },
				"cut":              func(b []byte) []byte { return b[:len(b)/2] },
				"one byte more":    func(b []byte) []byte { return append(b, 0) },
				"a bit flipped":    func(b []byte) []byte { b[len(b)-1] ^= 1; return b },
				"another place":    func(b []byte) []byte { b[len(b)/2] ^= 0x80; return b },
				"of a session":     func(b []byte) []byte { b[8] = 2; return b },
				"no context":       func(b []byte) []byte { return bytes.Repeat([]byte("no context"), 100) },
				"too large by far": func(b []byte) []byte { return make([]byte, 1<<20) },
			} {
				for _, file := range s.files() {
					data, err := os.ReadFile(file)
					if err != nil {
						t.Fatal(err)
					}
					if err := os.WriteFile(file, damage(data), 0o600); err != nil {
						t.Fatal(err)
					}
				}
				names := s.program(c.file, c.opts, signOnce)
				if countOf(names, loads...) == 0 {
					t.Errorf("%s: %v", what, names)
				}
				if again := s.program(c.file, c.opts, signOnce); countOf(again, loads...) > 0 {
					t.Errorf("after %s: %v", what, again)
				}
			}
		})
	}
}

// The contexts of two keys and of their parent change places: no secret and no salt meets
// what they load, and no try is spent.
func TestForeignContexts(t *testing.T) {
	s := newShelf(t, tpmtest.Keys20)
	opts := &tpmkey.LoadOptions{Auth: motdepasse()}
	keys := []blob.Key{fixture20(t, "pv-rsa-auth"), fixture20(t, "e2-rsa-auth-da")}
	for _, file := range keys {
		s.program(file, opts, decryptsOrSigns(file))
	}
	files := s.files()
	var whole [][]byte
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		whole = append(whole, data)
	}
	if len(files) != 3 {
		t.Fatalf("contexts on disk: %v", files)
	}
	for shift := 1; shift < len(files); shift++ {
		for _, key := range keys {
			for i, file := range files {
				if err := os.WriteFile(file, whole[(i+shift)%len(files)], 0o600); err != nil {
					t.Fatal(err)
				}
			}
			names := s.program(key, opts, decryptsOrSigns(key))
			// What is loaded first and second, the parent and the key, is looked at and freed,
			// with all else that is loaded.
			for range 2 {
				want := []string{"TPM2_ContextLoad", "TPM2_ReadPublic", "TPM2_GetCapability", "TPM2_GetCapability", "TPM2_FlushContext"}
				i := slices.Index(names, want[0])
				if i < 0 || len(names) < i+len(want) || !slices.Equal(names[i:i+len(want)], want) {
					t.Fatalf("shift %d: %v", shift, names)
				}
				names = names[i+len(want):]
			}
		}
		if n := tries(t, openName(t, s.p.Name)); n != 0 {
			t.Errorf("shift %d: %d tries are counted", shift, n)
		}
	}
}

// decryptsOrSigns uses a key for what it can do.
func decryptsOrSigns(file blob.Key) func(*tpmkey.Key) error {
	if file.CanSign() {
		return signOnce
	}
	return func(k *tpmkey.Key) error {
		_, err := k.Decrypt(nil, make([]byte, 256), nil)
		if err == nil {
			return fmt.Errorf("zeros were decrypted")
		}
		return nil
	}
}

// tpmctl flush, clear and own come down to these.
func TestContextsEmptied(t *testing.T) {
	s := newShelf(t, tpmtest.Keys20)
	var file blob.Key = fixture20(t, "pv-p256")
	tpm := openName(t, s.p.Name)
	for what, empty := range map[string]func() error{
		"flush": func() error { _, _, err := tpm.FlushOrphans(t.Context(), false); return err },
		"clear": func() error {
			_, err := tpm.Clear(t.Context(), tpmkey.OwnerSecret(tpmkey.WellKnown()), nil)
			return err
		},
	} {
		if what == "clear" {
			file = mustCreate(t, tpm)
		}
		s.program(file, nil, signOnce)
		if len(s.files()) == 0 {
			t.Errorf("before %s there is nothing on disk", what)
		}
		if err := empty(); err != nil {
			t.Error(what, err)
		}
		if files := s.files(); len(files) > 0 {
			t.Errorf("after %s: %v", what, files)
		}
		file = mustCreate(t, tpm)
	}
}

func mustCreate(t *testing.T, tpm *tpmkey.TPM) blob.Key {
	t.Helper()
	file, err := tpm.Create(t.Context(), &tpmkey.CreateOptions{Type: tpmkey.P256})
	if err != nil {
		t.Fatal(err)
	}
	return file
}

// On a TPM 1.2 the public key tells what a context is of.
func TestForeignContexts12(t *testing.T) {
	tpmtest.Long(t, tpmtest.Slow12)
	s := newShelf(t, tpmtest.WellKnown)
	tpm := openName(t, s.p.Name)
	other, err := tpm.Create(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	s.program(stpm(t, "stpm.key"), nil, signOnce)
	s.program(other, nil, signOnce)
	files := s.files()
	if len(files) != 2 {
		t.Fatalf("contexts on disk: %v", files)
	}
	if err := errors.Join(os.Rename(files[0], files[0]+"x"), os.Rename(files[1], files[0]), os.Rename(files[0]+"x", files[1])); err != nil {
		t.Fatal(err)
	}
	for _, key := range []blob.Key{other, stpm(t, "stpm.key")} {
		names := s.program(key, nil, signOnce)
		want := []string{"TPM_LoadContext", "TPM_GetPubKey", "TPM_GetCapability", "TPM_GetCapability", "TPM_FlushSpecific", "TPM_OIAP", "TPM_LoadKey2"}
		if i := slices.Index(names, want[0]); i < 0 || len(names) < i+len(want) || !slices.Equal(names[i:i+len(want)], want) {
			t.Errorf("commands %v, want %v", names, want)
		}
	}
}

// A program that has the owner's secret made the primary key: who uses that afterwards,
// without a secret, leaves nothing for others.
func TestNotOnDiskAfterSecret(t *testing.T) {
	s := newShelf(t, tpmtest.Owned20)
	tpm := openName(t, s.p.Name)
	mustSign(t, loadWith(t, tpm, "pv-p256", tpmkey.Password([]byte("proprio")), tpmkey.Secret{}))
	mustSign(t, loadWith(t, tpm, "e2-p256", tpmkey.Secret{}, tpmkey.Secret{}))
	if err := tpm.Close(); err != nil {
		t.Error(err)
	}
	if files := s.files(); len(files) > 0 {
		t.Errorf("on disk: %v", files)
	}
}

// A public key from outside, with all that a parent has, is no parent: a private key is not
// encrypted to it.
func TestExternalParent(t *testing.T) {
	s := newShelf(t, tpmtest.Keys20)
	file := fixture20(t, "e2-p256-auth")
	opts := &tpmkey.LoadOptions{Auth: motdepasse()}
	s.program(file, opts, signOnce)
	area := tpm2.ECCSRKTemplate
	software, err := ecdh.P256().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	point := software.PublicKey().Bytes()[1:] // X, Y
	area.Unique = tpm2.NewTPMUPublicID(tpm2.TPMAlgECC, &tpm2.TPMSECCPoint{
		X: tpm2.TPM2BECCParameter{Buffer: point[:32]}, Y: tpm2.TPM2BECCParameter{Buffer: point[32:]},
	})
	external := s.external(tpm2.New2B(area))
	for _, f := range s.files() {
		if err := os.WriteFile(f, external, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	names := s.program(file, opts, signOnce)
	first := slices.Index(names, "TPM2_CreatePrimary")
	if first < 0 || countOf(names[:first], "TPM2_StartAuthSession", "TPM2_Load", "TPM2_Import", "TPM2_Sign") > 0 {
		t.Errorf("commands %v", names)
	}
}

// A diskContext is one on disk.
type diskContext struct {
	path string
	data []byte
}

// contexts are those on disk, the smallest first: the files' names tell nothing.
func (s *shelf) contexts() (all []diskContext) {
	s.t.Helper()
	for _, path := range s.files() {
		data, err := os.ReadFile(path)
		if err != nil {
			s.t.Fatal(err)
		}
		all = append(all, diskContext{path, data})
	}
	slices.SortFunc(all, func(a, b diskContext) int { return len(a.data) - len(b.data) })
	return all
}

// Another TPM by the same name, one that was cleared by another program, and one whose
// hierarchy is switched off take no context, and count no try; the next program's are new.
func TestContextsOfAnotherTPM(t *testing.T) {
	opts := &tpmkey.LoadOptions{Auth: motdepasse()}
	file := fixture20(t, "e2-rsa-auth-da")
	use := decryptsOrSigns(file)
	s := newShelf(t, tpmtest.Keys20)
	s.program(file, opts, use)
	theirs := s.contexts()
	other := newShelf(t, tpmtest.Keys20) // with the same seeds
	other.sw.Restart()                   // another start, or it would be the same TPM
	other.program(file, opts, use)
	ours := other.contexts()
	if len(ours) != 2 || len(theirs) != 2 {
		t.Fatalf("%d and %d contexts, not those of a key and its parent", len(ours), len(theirs))
	}
	for i, c := range ours { // the key's in place of the key's
		if err := os.WriteFile(c.path, theirs[i].data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if names := other.program(file, opts, use); countOf(names, loads...) == 0 {
		t.Errorf("commands %v", names)
	}
	if names := other.program(file, opts, use); countOf(names, loads...) > 0 {
		t.Errorf("afterwards commands %v", names)
	}
	wantTries(t, openName(t, other.p.Name), 0)
}

// A caller's transport is of some TPM, nobody knows which: nothing is kept.
func TestTransportKeepsNothing(t *testing.T) {
	s := newShelf(t, tpmtest.Keys20)
	dev, err := transport.Open(s.p.Name, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	tpm, err := tpmkey.OpenTransport(t.Context(), tpmtest.NewTap(dev))
	if err != nil {
		t.Fatal(err)
	}
	mustSign(t, loadWith(t, tpm, "pv-p256", tpmkey.Secret{}, tpmkey.Secret{}))
	if err := tpm.Close(); err != nil {
		t.Error(err)
	}
	if files := s.files(); len(files) > 0 {
		t.Errorf("on disk: %v", files)
	}
}

// The public half of a key in its entry is no key: it comes from its file then.
func TestPublicHalfOnDisk(t *testing.T) {
	for _, name := range []string{"pv-p256", "e2-p256-auth"} {
		t.Run(name, func(t *testing.T) {
			s := newShelf(t, tpmtest.Keys20)
			file := fixture20(t, name)
			var opts tpmkey.LoadOptions
			if name != "pv-p256" {
				opts.Auth = motdepasse()
			}
			s.program(file, &opts, signOnce)
			external := s.external(tpm2.BytesAs2B[tpm2.TPMTPublic](file.Public[2:]))
			for _, f := range s.files() {
				if isParent(s.p.Name, f) {
					continue
				}
				if err := os.WriteFile(f, external, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if names := s.program(file, &opts, signOnce); countOf(names, "TPM2_Load") != 1 {
				t.Errorf("commands %v", names)
			}
			if names := s.program(file, &opts, signOnce); countOf(names, "TPM2_Load") != 0 {
				t.Errorf("afterwards commands %v", names)
			}
			wantTries(t, openName(t, s.p.Name), 0)
		})
	}
}

// external is the saved context of a public key from outside.
func (s *shelf) external(public tpm2.TPM2BPublic) []byte {
	s.t.Helper()
	made, err := tpm2.LoadExternal{InPublic: public, Hierarchy: tpm2.TPMRHOwner}.Execute(s.p)
	if err != nil {
		s.t.Fatal(err)
	}
	saved, err := tpm2.ContextSave{SaveHandle: made.ObjectHandle}.Execute(s.p)
	if err == nil {
		_, err = tpm2.FlushContext{FlushHandle: made.ObjectHandle}.Execute(s.p)
	}
	if err != nil {
		s.t.Fatal(err)
	}
	return tpm2.Marshal(saved.Context)
}

// A key's context is there, and its parent's is not: that comes back with the first session
// that needs it.
func TestParentNotOnDisk(t *testing.T) {
	opts := &tpmkey.LoadOptions{Auth: motdepasse()}
	for name, c := range map[string]struct {
		state tpmtest.State
		first int // primaries of the next program
	}{"the parent is made": {tpmtest.Keys20, 1}, "the parent is kept": {tpmtest.Kept20, 0}, "and the owner has a secret": {tpmtest.KeptOwned20, 0}} {
		t.Run(name, func(t *testing.T) {
			s := newShelf(t, c.state)
			file := fixture20(t, "e2-p256-auth")
			s.program(file, opts, signOnce)
			for _, f := range s.files() {
				if data, err := os.ReadFile(f); err != nil || len(s.files()) > 1 && isParent(s.p.Name, f) {
					t.Log(len(data), err, os.Remove(f))
				}
			}
			for i, want := range []int{c.first, 0} {
				names := s.program(file, opts, signOnce)
				if countOf(names, "TPM2_CreatePrimary") != want || countOf(names, "TPM2_Load") != 0 {
					t.Errorf("%d: %v, want %d primaries", i, names, want)
				}
			}
		})
	}
}

// isParent reports whether a file is the entry of the owner's primary key.
func isParent(tpm, file string) bool {
	return filepath.Base(file) == contextcache.NameFor(tpm, []byte("primary"), []byte{0x40, 0, 0, 1}, []byte{0})
}
