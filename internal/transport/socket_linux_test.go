package transport

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"maclef/internal/tpmtest"
	"maclef/internal/transport/frame"
)

// impatient gives up soon.
func impatient() opener {
	w := defaultTimeouts()
	for _, limit := range []*time.Duration{&w.probe, &w.slow, &w.command, &w.quick, &w.turn, &w.grace} {
		*limit = 300 * time.Millisecond
	}
	return opener{timeouts: w, devices: "/dev"}
}

// tryOpen opens a TPM and sends a first command.
func tryOpen(o opener, name string) (*Device, error) {
	d, err := o.open(context.Background(), name)
	if err != nil {
		return nil, err
	}
	if _, err := d.Send(probeCommand); err != nil {
		d.Close()
		return nil, err
	}
	return d, nil
}

// wantError checks an error's kind and words.
func wantError(t *testing.T, err error, want error, words ...string) {
	t.Helper()
	if !errors.Is(err, want) || kind(err) == "other" {
		t.Errorf("got %v, want it to be: %v", err, want)
		return
	}
	for _, word := range words {
		if !strings.Contains(err.Error(), word) {
			t.Errorf("%q does not say %q", err, word)
		}
	}
}

func TestSocket(t *testing.T) {
	tpmtest.Long(t, tpmtest.Slow12)
	t.Parallel()
	s := tpmtest.Start(t, tpmtest.Tutorial)
	for range 3 {
		d := mustOpen(t, s.Socket)
		release, err := d.Acquire(context.Background(), time.Time{})
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(alive(d), alive(d)); err != nil || d.Name() != s.Socket || d.Emulator() {
			t.Error(err, d.Name())
		}
		if d.SetupNeeded() || d.SetupDone() == nil {
			t.Error("somebody's TPM can be set up like the emulator")
		}
		release()
		d.Close()
	}
}

// The byte that shows that swtpm listens is the command's own, whichever generation's.
func TestSocketTPM20(t *testing.T) {
	t.Parallel()
	d := mustOpen(t, tpmtest.Start(t, tpmtest.TPM20).Socket)
	// TPM2_GetRandom: TPM 2.0 Part 3, section 16.1.
	random := []byte{0x80, 0x01, 0, 0, 0, 12, 0, 0, 0x01, 0x7B, 0, 8}
	opened := d.Opened()
	for i, cmd := range [][]byte{random, random, probeCommand, probeCommand, random, random} {
		rsp, err := d.Send(cmd)
		if is20 := len(rsp) == 20; err != nil || is20 != (cmd[0] == 0x80) {
			t.Errorf("%d: %x %v", i, rsp, err)
		}
		if link := d.link.(*socketLink); link.generation != cmd[0] {
			t.Errorf("%d: the next command would begin with %#x", i, link.generation)
		}
	}
	if n, err := d.Opened()-opened, d.Close(); n != 6 || err != nil {
		t.Error(n, err)
	}
}

// overTCP makes a software TPM reachable by TCP, and returns its name.
func overTCP(t *testing.T, s *tpmtest.SWTPM) string {
	t.Helper()
	return "tcp:" + peer(t, "tcp", "127.0.0.1:0", func(c net.Conn) {
		swtpm, err := net.Dial("unix", strings.TrimPrefix(s.Socket, "unix:"))
		if err != nil {
			return
		}
		defer swtpm.Close()
		go func() {
			io.Copy(swtpm, c)
			swtpm.Close()
		}()
		io.Copy(c, swtpm)
	})
}

func TestSocketTCP(t *testing.T) {
	t.Parallel()
	if err := alive(mustOpen(t, overTCP(t, tpmtest.Start(t, tpmtest.Fresh)))); err != nil {
		t.Error(err)
	}
}

func TestSocketBusy(t *testing.T) {
	tpmtest.Long(t, tpmtest.Waits)
	t.Parallel()
	s := tpmtest.Start(t, tpmtest.Fresh)
	d := mustOpen(t, s.Socket)
	release, err := d.Acquire(context.Background(), time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	_, err = tryOpen(impatient(), s.Socket)
	wantError(t, err, ErrBusy, "300ms", "another program is using it")
	// Fill the queue, so that not even connecting works.
	var queue []net.Conn
	for range 8 {
		if c, err := net.Dial("unix", strings.TrimPrefix(s.Socket, "unix:")); err == nil {
			queue = append(queue, c)
		}
	}
	_, err = tryOpen(impatient(), s.Socket)
	wantError(t, err, ErrBusy, "300ms")
	for _, c := range queue {
		c.Close()
	}
	release()
	if err := alive(d); err != nil {
		t.Error("the one who was first:", err)
	}
}

func TestSocketControlChannel(t *testing.T) {
	tpmtest.Long(t, tpmtest.Waits)
	t.Parallel()
	s := tpmtest.Start(t, tpmtest.Fresh)
	_, err := tryOpen(impatient(), "unix:"+s.Control)
	wantError(t, err, ErrNoTPM, "control channel")
}

func TestSocketNobodyThere(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{
		"unix:" + dir + "/none", "unix:" + file, "unix:" + dir, "unix:", "unix:" + dir + "/" + strings.Repeat("l", 150),
		"unix:" + file + "/in/" + strings.Repeat("l", 150),
		"tcp:127.0.0.1:1", "tcp:127.0.0.1", "tcp:", "tcp:127.0.0.1:99999", "tcp:no.such.host.invalid:2321",
	} {
		_, err := tryOpen(impatient(), name)
		wantError(t, err, ErrNoTPM, name)
	}
}

func TestSocketLongPath(t *testing.T) {
	t.Parallel()
	s := tpmtest.Start(t, tpmtest.Fresh)
	long := filepath.Join(s.Dir, strings.Repeat("l", 150))
	if err := os.Rename(filepath.Join(s.Dir, "sock"), long); err != nil {
		t.Fatal(err)
	}
	if err := alive(mustOpen(t, "unix:"+long)); err != nil {
		t.Error(err)
	}
}

func TestSocketTPMKilled(t *testing.T) {
	tpmtest.Long(t, tpmtest.Waits)
	t.Parallel()
	s := tpmtest.Start(t, tpmtest.Fresh)
	d := mustOpen(t, s.Socket)
	release := mustAcquire(t, d)
	if err := alive(d); err != nil {
		t.Fatal(err)
	}
	opened := d.Opened()
	s.Kill()
	wantError(t, alive(d), ErrGone, s.Socket)
	wantBroken(t, d)
	release()
	_, err := tryOpen(impatient(), s.Socket)
	wantError(t, err, ErrNoTPM, "is swtpm running")
	restarted := make(chan struct{})
	time.AfterFunc(300*time.Millisecond, func() {
		defer close(restarted)
		s.Restart() // returns when it has been served itself
	})
	if err := alive(d); err != nil || d.Opened() != opened+1 {
		t.Error("it did not wait for the TPM to come back:", err, opened, d.Opened())
	}
	<-restarted
}

func TestSendChecksCommands(t *testing.T) {
	tpmtest.Long(t, tpmtest.Waits)
	t.Parallel()
	d := mustOpen(t, tpmtest.Start(t, tpmtest.Fresh).Socket)
	for _, cmd := range [][]byte{nil, probeCommand[:9], probeCommand[:17], append(probeCommand, 0), make([]byte, frame.MaxSize+1)} {
		if _, err := d.Send(cmd); kind(err) != "other" {
			t.Errorf("%x: %v", cmd, err)
		}
	}
	if err := errors.Join(alive(d), d.Close()); err != nil {
		t.Error(err)
	}
	wantError(t, alive(d), ErrGone, "closed")
}

func TestSocketPermission(t *testing.T) {
	t.Parallel()
	path := filepath.Join(publicDir(t), "s")
	peer(t, "unix", path, answering(good))
	if err := os.Chmod(path, 0); err != nil {
		t.Fatal(err)
	}
	p := startUser(t, "unix:"+path, asNobody)
	p.want("open permission open TPM unix:"+path+": no permission: become a user", p.answer())
}

// loopback is a foreign transport.
type loopback struct{ answers [][]byte }

func (l *loopback) Close() error { return nil }
func (l *loopback) Send([]byte) ([]byte, error) {
	answer := l.answers[0]
	l.answers = l.answers[1:]
	if answer == nil {
		return nil, io.ErrUnexpectedEOF
	}
	return answer, nil
}

func TestWrap(t *testing.T) {
	t.Parallel()
	d := Wrap(&loopback{[][]byte{[]byte(good), nil, {}, []byte(good)[:9], []byte(good + "x"), []byte(good)}}, "mine")
	for i, want := range []string{"ok", "gone", "gone", "gone", "gone", "ok"} {
		rsp, err := d.Send(probeCommand)
		if kind(err) != want || err == nil && !bytes.Equal(rsp, []byte(good)) {
			t.Errorf("answer %d: %q %v", i, rsp, err)
		}
		d.Drop() // does nothing
	}
	if d.Name() != "mine" || d.Emulator() || d.Close() != nil {
		t.Error(d.Name())
	}
}
