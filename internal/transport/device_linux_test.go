package transport

import (
	"errors"
	"io"
	"net"
	"path/filepath"
	"testing"
	"time"

	"maclef/internal/tpmtest"
)

// wantBroken checks that a connection stays broken in a turn, and nothing is sent.
func wantBroken(t *testing.T, d *Device) {
	t.Helper()
	opened := d.Opened()
	for range 2 {
		err := alive(d)
		wantError(t, err, ErrGone, d.Name(), "lost before")
		if !errors.Is(err, ErrNotSent) || d.Connected() || d.Opened() != opened {
			t.Error(err, d.Connected(), opened, d.Opened())
		}
	}
}

func TestDeviceKinds(t *testing.T) {
	t.Parallel()
	node := &nodeLink{path: "/dev/tpm0"}
	for _, row := range []struct {
		name                    string
		link                    link
		bare, managed, emulator bool
	}{
		{"device", node, true, false, false},
		{"resource manager", &managedLink{node}, false, true, false},
		{"socket", &socketLink{}, true, false, false},
		{"emulator", &emulatorLink{}, true, false, true},
		{"somebody's", wrappedLink{&loopback{}}, false, false, false},
	} {
		d := newDevice(row.name, row.link, defaultTimeouts())
		if d.Bare() != row.bare || d.Managed() != row.managed || d.Emulator() != row.emulator {
			t.Errorf("%s: bare %v, managed %v, emulator %v", row.name, d.Bare(), d.Managed(), d.Emulator())
		}
	}
}

// A bare TPM is open in turns only, in each anew.
func TestOpened(t *testing.T) {
	t.Parallel()
	tpmtest.Long(t, tpmtest.Slow12)
	s := tpmtest.Start(t, tpmtest.Fresh)
	for name, opened := range map[string]uint64{s.Socket: 1, overTCP(t, s): 1, "emulator:" + stateDir(t): 1} {
		d := mustOpen(t, name)
		for i := range 3 {
			release := mustAcquire(t, d)
			opened++
			if err := errors.Join(alive(d), alive(d)); err != nil || d.Opened() != opened || !d.Connected() {
				t.Errorf("%s, turn %d: %v; opened %d times, want %d", name, i, err, d.Opened(), opened)
			}
			release()
			if d.Connected() {
				t.Errorf("%s, turn %d: open after it", name, i)
			}
		}
		d.Close()
	}
	d := Wrap(&loopback{[][]byte{nil, []byte(good), []byte(good)}}, "mine")
	for range 3 {
		d.Send(probeCommand)
	}
	if n := d.Opened(); n != 1 {
		t.Errorf("somebody's transport was opened %d times", n)
	}
}

// Drop breaks the connection for the rest of the turn, and does nothing between turns.
func TestDrop(t *testing.T) {
	tpmtest.Long(t, tpmtest.Slow12)
	t.Parallel()
	s := tpmtest.Start(t, tpmtest.Fresh)
	for _, name := range []string{s.Socket, overTCP(t, s), "emulator:" + stateDir(t)} {
		d := mustOpen(t, name)
		release := mustAcquire(t, d)
		if err := alive(d); err != nil {
			t.Fatal(err)
		}
		d.Drop()
		d.Drop()
		other := mustOpen(t, name)
		if err := errors.Join(alive(other), other.Close()); err != nil {
			t.Error("others are kept out:", err)
		}
		wantBroken(t, d)
		release()
		d.Drop()
		if err := errors.Join(alive(d), d.Close()); err != nil {
			t.Errorf("%s, next turn: %v", name, err)
		}
	}
}

const never = time.Hour

// answeringLate answers one command at once, and the next ones after a time.
func answeringLate(after time.Duration) func(net.Conn) {
	return func(c net.Conn) {
		for pause := time.Duration(0); pause < never; pause = after {
			if _, err := io.ReadFull(c, make([]byte, len(probeCommand))); err != nil {
				return
			}
			time.Sleep(pause)
			io.WriteString(c, good)
		}
		io.Copy(io.Discard, c)
	}
}

func TestSetDeadline(t *testing.T) {
	for _, row := range []struct {
		name      string
		in, after time.Duration // the deadline and the answer
		want      string
	}{
		{"no answer", 200 * time.Millisecond, never, "gone"},
		{"no answer, and it is too late already", -time.Hour, never, "gone"},
		{"it is too late for others", -time.Hour, 0, "ok"},
		{"not yet", time.Hour, 300 * time.Millisecond, "ok"},
		{"none", 0, 300 * time.Millisecond, "ok"},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "s")
			peer(t, "unix", path, answeringLate(row.after))
			d := mustOpen(t, "unix:"+path)
			mustAcquire(t, d)
			if _, err := d.Send(probeCommand); err != nil {
				t.Fatal(err)
			}
			d.SetDeadline(time.Now())
			if d.SetDeadline(time.Time{}); row.in != 0 {
				d.SetDeadline(time.Now().Add(row.in))
			}
			begin := time.Now()
			_, err := d.Send(probeCommand)
			if took := time.Since(begin); kind(err) != row.want || took > 5*time.Second {
				t.Errorf("after %v: %v", took, err)
			}
		})
	}
}
