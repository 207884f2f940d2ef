package transport

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"
	"time"

	"maclef/internal/transport/emulator"
)

// An emulatorLink reaches the swtpm that this project runs over a directory.
type emulatorLink struct {
	socketLink
	tpm     *emulator.Emulator
	suspect bool // the TPM may be in failure mode; true before the first connection
	explain func(error) error
}

// openEmulator starts the software TPM over a directory, unless it runs, and opens it. form
// tells the generation. An empty dir means the default directory.
func (o opener) openEmulator(doing, form, dir string) (*Device, error) {
	m := emulator.ModelOf(form)
	dir, err := m.Directory(dir)
	name := form + ":" + dir
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", doing, form, err)
	}
	if err := needPrograms(doing, name); err != nil {
		return nil, err
	}
	tpm, err := emulator.Open(m, dir, emulator.Options{Start: o.timeouts.start, Probe: o.timeouts.probe, Ask: askOnce, Listening: listening})
	if err != nil {
		return nil, o.explainEmulator(doing, name, form, err)
	}
	explain := func(err error) error { return o.explainEmulator("use", name, form, err) }
	l := &emulatorLink{tpm: tpm, suspect: true, explain: explain, socketLink: socketLink{
		network: "unix", address: tpm.Socket(), label: name, timeouts: o.timeouts, doing: doing, answered: true, generation: m.First,
		restart: func() error { return explain(tpm.Run()) },
	}}
	return newDevice(name, l, o.timeouts), nil
}

// needPrograms returns an error if a program that the emulator needs is not installed.
func needPrograms(doing, name string) error {
	switch program, err := emulator.MissingProgram(); {
	case err == nil:
		return nil
	case program == emulator.SWTPM:
		return failure(doing, name, ErrNoSWTPM, "install it with \"apt-get install swtpm\": %w", err)
	default:
		return fmt.Errorf("%s %s: the emulator needs the program %s of Debian's essential packages: %w", doing, name, program, err)
	}
}

// explainEmulator adds to an error of the emulator what to do.
func (o opener) explainEmulator(doing, name, form string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, emulator.ErrLocked):
		return failure(doing, name, ErrBusy, "other programs have been starting or stopping it for %v: wait and try again", o.timeouts.start)
	case errors.Is(err, emulator.ErrOtherSWTPM):
		return failure(doing, name, ErrBusy, "%w", err)
	case errors.Is(err, os.ErrPermission):
		return failure(doing, name, ErrPermission, "use a directory of your own (%s:DIR): %w", form, err)
	case errors.Is(err, syscall.ENOTDIR):
		return fmt.Errorf("%s %s: it must be a directory, or a path where one can be made: %w", doing, name, err)
	case errors.Is(err, syscall.EROFS), errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return fmt.Errorf("%s %s: its state cannot be written there, make room or use another directory (%s:DIR): %w", doing, name, form, err)
	}
	return fmt.Errorf("%s %s: %w", doing, name, err)
}

func (l *emulatorLink) connect(ctx context.Context) error {
	l.tpm.Connecting()
	err := l.socketLink.connect(ctx)
	if err != nil || !l.suspect {
		return err
	}
	again, err := l.revive()
	if again || err != nil {
		l.disconnect()
	}
	if again {
		return l.socketLink.connect(ctx)
	}
	return err
}

// revive ends a TPM in failure mode, so that the next connection starts it again. A TPM that could
// not write its state, because its disk was full, refuses everything, and swtpm would run like
// that until its last user ends. While there is no room the error says so.
func (l *emulatorLink) revive() (again bool, err error) {
	rsp, err := l.socketLink.exchange(l.tpm.FailureProbe(), l.timeouts.probe)
	if l.suspect = err == nil && l.tpm.Failed(rsp); !l.suspect {
		return false, err
	}
	if err := l.tpm.CheckWritable(); err != nil {
		return false, l.explain(err)
	}
	return true, l.endSWTPM()
}

// shutdownSWTPM is CMD_SHUTDOWN of swtpm's control channel.
var shutdownSWTPM = []byte{0, 0, 0, 3}

func (l *emulatorLink) endSWTPM() error {
	ctx, cancel := context.WithTimeout(context.Background(), l.timeouts.probe)
	defer cancel()
	conn, err := dialStream(ctx, "unix", l.tpm.Control())
	if err != nil {
		return l.connectError(err)
	}
	defer conn.Close()
	if err = conn.SetDeadline(time.Now().Add(l.timeouts.probe)); err == nil {
		_, err = conn.Write(shutdownSWTPM)
	}
	if err == nil {
		_, err = io.ReadFull(conn, make([]byte, 4))
	}
	if err != nil && !hungUp(err) && !errors.Is(err, io.EOF) {
		return l.connectError(err)
	}
	return nil
}

func (l *emulatorLink) exchange(cmd []byte, limit time.Duration) ([]byte, error) {
	rsp, err := l.socketLink.exchange(cmd, limit)
	l.suspect = l.suspect || err == nil && l.tpm.Failed(rsp)
	return rsp, err
}

func (l *emulatorLink) close() error      { return l.tpm.Close() }
func (l *emulatorLink) setupNeeded() bool { return l.tpm.SetupNeeded() }
func (l *emulatorLink) setupDone() error  { return l.tpm.SetupDone() }

// askOnce sends one command over its own connection.
func askOnce(socket string, cmd []byte, limit time.Duration) error {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	conn, err := dialStream(ctx, "unix", socket)
	if err != nil {
		return err
	}
	defer conn.Close()
	_, err = exchange(conn, cmd, limit)
	return err
}

// listening returns nil if swtpm takes connections. If its queue is full, it does.
func listening(socket string) error {
	fd, err := tryConnect(socket)
	switch {
	case err == nil:
		return syscall.Close(fd)
	case errors.Is(err, syscall.EAGAIN):
		return nil
	}
	return err
}
