package transport

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"maclef/internal/tpmtest"
)

// Prebuilt commands: TPM Main Part 3, sections 7.1 (permanent flags), 5.4
// (TPM_PhysicalDisable), 18.1 (TPM_OIAP).
var (
	cmdFlags   = []byte{0, 0xC1, 0, 0, 0, 22, 0, 0, 0, 0x65, 0, 0, 0, 4, 0, 0, 0, 4, 0, 0, 1, 8}
	cmdDisable = []byte{0, 0xC1, 0, 0, 0, 10, 0, 0, 0, 0x70}
	cmdOIAP    = []byte{0, 0xC1, 0, 0, 0, 10, 0, 0, 0, 0x0A}
)

// disabled reads the TPM's flag disable.
func disabled(t *testing.T, d *Device) bool {
	t.Helper()
	rsp, err := d.Send(cmdFlags)
	if err != nil || len(rsp) < 17 {
		t.Fatalf("%x %v", rsp, err)
	}
	return rsp[16] != 0
}

// command sends a command that answers nothing but its result.
func command(d *Device, cmd []byte) error {
	rsp, err := d.Send(cmd)
	if err == nil && !bytes.Equal(rsp[6:10], make([]byte, 4)) {
		err = fmt.Errorf("TPM error %x", rsp[6:10])
	}
	return err
}

func TestEmulatorFirstUse(t *testing.T) {
	tpmtest.Long(t, tpmtest.Waits)
	t.Parallel()
	dir := stateDir(t)
	d := mustOpen(t, "emulator:"+dir)
	if d.Name() != "emulator:"+dir || !d.Emulator() || !d.SetupNeeded() {
		t.Fatal(d.Name(), d.Emulator(), d.SetupNeeded())
	}
	release, err := d.Acquire(context.Background(), time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(d.SetupDone(), d.SetupDone()); err != nil || d.SetupNeeded() || disabled(t, d) {
		t.Error(err, d.SetupNeeded())
	}
	release()
	release()
	if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
		t.Error(info.Mode(), err)
	}
	for _, secret := range []string{"tpm-00.permall", "sock", "ctrl"} {
		if info, err := os.Stat(filepath.Join(dir, secret)); err != nil || info.Mode().Perm() != 0o600 {
			t.Error(secret, info.Mode(), err)
		}
	}
	if err := errors.Join(alive(d), d.Close(), d.Close()); err != nil {
		t.Fatal(err)
	}
	emptied(t, dir)
	if d = mustOpen(t, "emulator:"+dir); d.SetupNeeded() {
		t.Error("set up twice")
	}
}

func TestEmulatorStateSurvives(t *testing.T) {
	t.Parallel()
	tpmtest.Long(t, tpmtest.Slow12)
	dir := stateDir(t)
	d := mustOpen(t, "emulator:"+dir)
	if _, err := d.Acquire(context.Background(), time.Time{}); err != nil {
		t.Fatal(err)
	}
	// TSC_PhysicalPresence: TPM Main Part 3, section 6.6.
	enable := []byte{0, 0xC1, 0, 0, 0, 12, 0x40, 0, 0, 0x0A, 0, 0x20}
	presence := []byte{0, 0xC1, 0, 0, 0, 12, 0x40, 0, 0, 0x0A, 0, 8}
	if err := errors.Join(command(d, enable), command(d, presence), command(d, cmdDisable)); err != nil {
		t.Fatal(err)
	}
	d.Close() // within the turn
	if d = mustOpen(t, "emulator:"+dir); !disabled(t, d) {
		t.Error("the state was lost by Close")
	}
	killProgram(t, dir, "swtpm")
	if d = mustOpen(t, "emulator:"+dir); !disabled(t, d) {
		t.Error("the state was lost by SIGKILL")
	}
}

func TestEmulatorSetupInterrupted(t *testing.T) {
	t.Parallel()
	tpmtest.Long(t, tpmtest.Slow12)
	dir := stateDir(t)
	p := startUser(t, "emulator:"+dir, nil)
	p.want("open ok", p.answer())
	p.want("done ok", p.ask("acquire"))
	time.AfterFunc(100*time.Millisecond, func() { p.cmd.Process.Kill() })
	d := mustOpen(t, "emulator:"+dir)
	release, err := d.Acquire(context.Background(), time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	if err := alive(d); err != nil || !d.SetupNeeded() {
		t.Error("the unfinished set-up was forgotten", err)
	}
}

func TestEmulatorForeignState(t *testing.T) {
	t.Parallel()
	dir := stateDir(t)
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	state := tpmtest.Fixture(t, "tpm12-tutorial/tpm-00.permall")
	if err := os.WriteFile(filepath.Join(dir, "tpm-00.permall"), state, 0o600); err != nil {
		t.Fatal(err)
	}
	d := mustOpen(t, "emulator:"+dir)
	if err := alive(d); err != nil || d.SetupNeeded() {
		t.Error("somebody's TPM would be set up", err)
	}
}

// Sessions live from turn to turn.
func TestEmulatorKeepsSessions(t *testing.T) {
	t.Parallel()
	tpmtest.Long(t, tpmtest.Slow12)
	d := mustOpen(t, "emulator:"+stateDir(t))
	open := func() []byte {
		rsp, err := d.Send(cmdOIAP)
		if err != nil || len(rsp) != 34 {
			t.Fatalf("%x %v", rsp, err)
		}
		// TPM_FlushSpecific: TPM Main Part 3, section 22.1.
		flush := []byte{0, 0xC1, 0, 0, 0, 18, 0, 0, 0, 0xBA, 0, 0, 0, 0, 0, 0, 0, 2}
		copy(flush[10:], rsp[10:14])
		return flush
	}
	flush := open()
	if err := errors.Join(alive(d), command(d, flush)); err != nil {
		t.Error("between two turns:", err)
	}
	if command(d, flush) == nil {
		t.Error("flushed twice")
	}
}

func TestEmulatorLongDirectory(t *testing.T) {
	t.Parallel()
	tpmtest.Long(t, tpmtest.Slow12)
	dir := filepath.Join(stateDir(t), strings.Repeat("d", 200), strings.Repeat("e", 200))
	t.Cleanup(func() { emptied(t, dir) })
	d := mustOpen(t, "emulator:"+dir)
	release, err := d.Acquire(context.Background(), time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	if err := alive(d); err != nil {
		t.Error(err)
	}
}

func TestEmulatorDefaultDirectory(t *testing.T) {
	tpmtest.Long(t, tpmtest.Slow12)
	home := stateDir(t)
	t.Setenv("HOME", home)
	for state, want := range map[string]string{
		"":                               filepath.Join(home, ".local/state/maclef/tpm12"),
		"relative/is/ignored":            filepath.Join(home, ".local/state/maclef/tpm12"),
		filepath.Join(home, "elsewhere"): filepath.Join(home, "elsewhere/maclef/tpm12"),
	} {
		t.Setenv("XDG_STATE_HOME", state)
		d := mustOpen(t, "emulator")
		if err := alive(d); err != nil || d.Name() != "emulator:"+want {
			t.Error(d.Name(), want, err)
		}
		d.Close()
		emptied(t, want)
	}
	t.Setenv("HOME", "")
	t.Setenv("XDG_STATE_HOME", "")
	if _, err := openNow("emulator"); err == nil || !strings.Contains(err.Error(), "emulator:DIR") {
		t.Error(err)
	}
}

// Opening again and again in one process leaves nothing behind.
func TestEmulatorLeavesNothing(t *testing.T) {
	tpmtest.Long(t, tpmtest.Slow12)
	dir := stateDir(t)
	var before [2]int
	for i := range 12 {
		d := mustOpen(t, "emulator:"+dir)
		if err := errors.Join(alive(d), d.Close()); err != nil {
			t.Fatal(err)
		}
		if i == 1 || i == 11 {
			emptied(t, dir)
			time.Sleep(50 * time.Millisecond) // cmd.Wait returns
			fds, _ := os.ReadDir("/proc/self/fd")
			now := [2]int{len(fds), runtime.NumGoroutine()}
			if i == 11 && now != before {
				t.Errorf("descriptors and goroutines: %v, now %v", before, now)
			}
			before = now
		}
	}
	if _, err := syscall.Wait4(-1, nil, syscall.WNOHANG, nil); err != syscall.ECHILD {
		t.Errorf("a child is left: %v", err)
	}
}

func TestEmulatorTrimsItsLog(t *testing.T) {
	t.Parallel()
	tpmtest.Long(t, tpmtest.Slow12)
	dir := stateDir(t)
	d := mustOpen(t, "emulator:"+dir)
	path := filepath.Join(dir, "swtpm.log")
	if err := os.WriteFile(path, bytes.Repeat([]byte("x"), 2<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	for range 1024 { // how often it is looked at
		if err := alive(d); err != nil {
			t.Fatal(err)
		}
	}
	if info, err := os.Stat(path); err != nil || info.Size() > 1<<20 {
		t.Error(info.Size(), err)
	}
}
