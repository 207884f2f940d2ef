package transport

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-tpm/tpm2"

	"maclef/internal/tpmtest"
	"maclef/internal/transport/emulator"
)

// property20 reads one property of a TPM 2.0. TPM 2.0 Library Part 3, section 30.2
// (TPM2_GetCapability).
func property20(t *testing.T, d *Device, p tpm2.TPMPT) uint32 {
	t.Helper()
	rsp, err := tpm2.GetCapability{Capability: tpm2.TPMCapTPMProperties, Property: uint32(p), PropertyCount: 1}.Execute(d)
	if err != nil {
		t.Fatal(err)
	}
	list, err := rsp.CapabilityData.Data.TPMProperties()
	if err != nil || len(list.TPMProperty) != 1 || list.TPMProperty[0].Property != p {
		t.Fatal(list, err)
	}
	return list.TPMProperty[0].Value
}

// sealed makes a primary object that holds a secret, behind a password with
// protection against guessing.
func sealed(t *testing.T, d *Device) tpm2.AuthHandle {
	t.Helper()
	rsp, err := tpm2.CreatePrimary{
		PrimaryHandle: tpm2.TPMRHOwner,
		InSensitive: tpm2.TPM2BSensitiveCreate{Sensitive: &tpm2.TPMSSensitiveCreate{
			UserAuth: tpm2.TPM2BAuth{Buffer: []byte("motdepasse")},
			Data:     tpm2.NewTPMUSensitiveCreate(&tpm2.TPM2BSensitiveData{Buffer: []byte("bonjour")}),
		}},
		InPublic: tpm2.New2B(tpm2.TPMTPublic{
			Type: tpm2.TPMAlgKeyedHash, NameAlg: tpm2.TPMAlgSHA256,
			ObjectAttributes: tpm2.TPMAObject{FixedTPM: true, FixedParent: true, UserWithAuth: true},
		}),
	}.Execute(d)
	if err != nil {
		t.Fatal(err)
	}
	return tpm2.AuthHandle{Handle: rsp.ObjectHandle, Name: rsp.Name}
}

// unseal opens a sealed object. The TPM wants the first use of a password to be
// repeated, after it has noted that there was one.
func unseal(d *Device, h tpm2.AuthHandle, password string) (err error) {
	h.Auth = tpm2.PasswordAuth([]byte(password))
	for range 3 {
		if _, err = (tpm2.Unseal{ItemHandle: h}).Execute(d); !errors.Is(err, tpm2.TPMRCRetry) {
			break
		}
	}
	return err
}

func TestEmulator2FirstUse(t *testing.T) {
	t.Parallel()
	dir := stateDir(t)
	d := mustOpen(t, "emulator2:"+dir)
	if d.Name() != "emulator2:"+dir || !d.Emulator() || d.SetupNeeded() || d.SetupDone() != nil {
		t.Fatal(d.Name(), d.Emulator(), d.SetupNeeded())
	}
	for _, secret := range []string{"tpm2-00.permall", "sock", "ctrl"} {
		if info, err := os.Stat(filepath.Join(dir, secret)); err != nil || info.Mode().Perm() != 0o600 {
			t.Error(secret, info, err)
		}
	}
	// Loaded objects live from turn to turn, and are lost with the TPM.
	h := sealed(t, d)
	if err := unseal(d, h, "motdepasse"); err != nil {
		t.Error(err)
	}
	d.Close()
	emptied(t, dir)
	d = mustOpen(t, "emulator2:"+dir)
	if err := unseal(d, h, "motdepasse"); !errors.Is(err, tpm2.TPMRCReferenceH0) {
		t.Error(err)
	}
}

// Loaded keys are lost when swtpm is killed, and the next turn starts a new one.
func TestEmulator2Revived(t *testing.T) {
	t.Parallel()
	dir := stateDir(t)
	d := mustOpen(t, "emulator2:"+dir)
	h := sealed(t, d)
	killProgram(t, dir, "swtpm")
	if err := unseal(d, h, "motdepasse"); !errors.Is(err, tpm2.TPMRCReferenceH0) {
		t.Error("between two turns:", err)
	}
	release := mustAcquire(t, d)
	opened := d.Opened()
	h = sealed(t, d)
	killProgram(t, dir, "swtpm")
	if err := unseal(d, h, "motdepasse"); !errors.Is(err, ErrGone) || d.Opened() != opened {
		t.Error("in a turn:", err, opened, d.Opened())
	}
	release()
	if err := unseal(d, h, "motdepasse"); !errors.Is(err, tpm2.TPMRCReferenceH0) || d.Opened() <= opened {
		t.Error("in the next turn:", err, opened, d.Opened())
	}
}

// A TPM that is told before it is switched off counts no wrong secret for it.
func TestEmulator2EndsInOrder(t *testing.T) {
	t.Parallel()
	dir := stateDir(t)
	d, other := mustOpen(t, "emulator2:"+dir), mustOpen(t, "emulator2:"+dir)
	if err := unseal(d, sealed(t, d), "motdepasse"); err != nil {
		t.Fatal(err)
	}
	d.Close()
	if err := unseal(other, sealed(t, other), "motdepasse"); err != nil {
		t.Error("the first one shut the TPM down:", err)
	}
	other.Close()
	emptied(t, dir)
	d = mustOpen(t, "emulator2:"+dir)
	if n := property20(t, d, tpm2.TPMPTLockoutCounter); n != 0 {
		t.Errorf("closing costs %d tries", n)
	}
	if err := unseal(d, sealed(t, d), "faux"); !errors.Is(err, tpm2.TPMRCAuthFail) {
		t.Fatal(err)
	}
	d.Close()
	emptied(t, dir)
	if n := property20(t, mustOpen(t, "emulator2:"+dir), tpm2.TPMPTLockoutCounter); n != 1 {
		t.Errorf("%d tries are remembered, want 1", n)
	}
}

var models = []*emulator.Model{emulator.ModelOf("emulator"), emulator.ModelOf("emulator2")}

func TestEmulatorModels(t *testing.T) {
	t.Parallel()
	tpmtest.Long(t, tpmtest.Slow12)
	dir := stateDir(t)
	write(t, dir+"/keep", "", 0o600)
	for _, m := range models {
		other := models[1]
		if m == other {
			other = models[0]
		}
		if _, err := mustOpen(t, m.Form+":"+dir).Send(probeCommand); err != nil {
			t.Fatal(err)
		}
		for _, running := range []bool{true, false} {
			want := "open TPM " + other.Form + ":" + dir + ": it holds a " + m.String() + ": use " + m.Form + ":" + dir + ", or another directory"
			if _, err := openNow(other.Form + ":" + dir); err == nil || err.Error() != want {
				t.Errorf("%v while it runs: %v: got %v, want %s", m, running, err, want)
			}
		}
		dir = stateDir(t)
		write(t, dir+"/keep", "", 0o600)
	}
	write(t, dir+"/tpm-00.permall", "", 0o600)
	write(t, dir+"/tpm2-00.permall", "", 0o600)
	for _, m := range models {
		if _, err := openNow(m.Form + ":" + dir); err == nil || !strings.Contains(err.Error(), "move tpm") {
			t.Error(err)
		}
	}
}

// Two programs open different TPMs in an empty directory. One gets its own, and the other is
// told which is there.
func TestEmulatorModelsRace(t *testing.T) {
	tpmtest.Long(t, tpmtest.Waits)
	t.Parallel()
	for range 5 {
		dir := stateDir(t)
		var opened [2]*Device
		var failed [2]error
		var both sync.WaitGroup
		for i, m := range models {
			both.Add(1)
			go func() {
				defer both.Done()
				opened[i], failed[i] = openNow(m.Form + ":" + dir)
			}()
		}
		both.Wait()
		for i, d := range opened {
			if d == nil {
				if failed[1-i] != nil || !strings.Contains(failed[i].Error(), "it holds a "+models[1-i].String()) {
					t.Error(failed)
				}
				continue
			}
			rsp, err := d.Send(probeCommand)
			if is12 := err == nil && rsp[9] == 0; err != nil || is12 != (i == 0) {
				t.Errorf("%v answers %x, %v", models[i], rsp, err)
			}
			d.Close()
		}
	}
}

func TestEmulator2RecordedState(t *testing.T) {
	t.Parallel()
	dir := stateDir(t)
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "tpm2-00.permall"), tpmtest.Fixture(t, "tpm2/tpm2-00.permall"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := (tpm2.ReadPublic{ObjectHandle: tpm2.TPMHandle(0x81000001)}).Execute(mustOpen(t, "emulator2:"+dir)); err != nil {
		t.Error(err)
	}
}

func TestEmulator2DefaultDirectory(t *testing.T) {
	home := stateDir(t)
	t.Setenv("HOME", home)
	t.Setenv("XDG_STATE_HOME", "")
	want := filepath.Join(home, ".local/state/maclef/tpm20")
	d := mustOpen(t, "emulator2")
	if d.Name() != "emulator2:"+want {
		t.Error(d.Name())
	}
	d.Close()
	emptied(t, want)
	t.Setenv("HOME", "")
	if _, err := openNow("emulator2"); err == nil || !strings.Contains(err.Error(), "emulator2:DIR") {
		t.Error(err)
	}
}

// Programs come and go, and each finds a TPM that works: the last one of each time shuts
// it down.
func TestEmulator2ComingAndGoing(t *testing.T) {
	t.Parallel()
	dir := stateDir(t)
	var all sync.WaitGroup
	for range 4 {
		all.Add(1)
		go func() {
			defer all.Done()
			for i := range 12 {
				d, err := openNow("emulator2:" + dir)
				if err != nil {
					t.Error(err)
					return
				}
				if _, err := (tpm2.GetRandom{BytesRequested: 8}).Execute(d); err != nil {
					t.Error(err)
				}
				time.Sleep(time.Duration(i) * time.Millisecond)
				d.Close()
			}
		}()
	}
	all.Wait()
	d := mustOpen(t, "emulator2:"+dir)
	if n := property20(t, d, tpm2.TPMPTLockoutCounter); n != 0 {
		t.Errorf("%d tries", n)
	}
}
