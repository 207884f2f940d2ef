package transport

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"maclef/internal/transport/emulator"
)

// An emulatorLink reaches the swtpm that this project runs over a directory.
type emulatorLink struct {
	socketLink
	tpm *emulator.Emulator
}

// openEmulator opens the software TPM over a directory, starting it unless it
// runs. form tells the generation; an empty dir means the default one.
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
	tpm, err := emulator.Open(m, dir, emulator.Options{Start: o.waits.start, Probe: o.waits.probe, Ask: askOnce, Listening: listening})
	if err != nil {
		return nil, o.explainEmulator(doing, name, form, err)
	}
	l := &emulatorLink{tpm: tpm, socketLink: socketLink{
		network: "unix", address: tpm.Socket(), label: name, waits: o.waits, doing: doing, proved: true, generation: m.First,
		revive: func() error { return o.explainEmulator("use", name, form, tpm.Run()) },
	}}
	return newDevice(name, l, o.waits), nil
}

// needPrograms explains which program the emulator wants and does not find.
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

// explainEmulator says what to do about an error of the emulator.
func (o opener) explainEmulator(doing, name, form string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, emulator.ErrLocked):
		return failure(doing, name, ErrBusy, "other programs have been starting or stopping it for %v: wait and try again", o.waits.start)
	case errors.Is(err, emulator.ErrOtherSWTPM):
		return failure(doing, name, ErrBusy, "%w", err)
	case errors.Is(err, os.ErrPermission):
		return failure(doing, name, ErrPermission, "use a directory of your own (%s:DIR): %w", form, err)
	case errors.Is(err, syscall.ENOTDIR):
		return fmt.Errorf("%s %s: it must be a directory, or a path where one can be made: %w", doing, name, err)
	case errors.Is(err, syscall.EROFS), errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return fmt.Errorf("%s %s: its state cannot be written there, use another directory (%s:DIR): %w", doing, name, form, err)
	}
	return fmt.Errorf("%s %s: %w", doing, name, err)
}

// begin connects to swtpm.
func (l *emulatorLink) begin(ctx context.Context) error {
	l.tpm.Connecting()
	return l.socketLink.begin(ctx)
}

func (l *emulatorLink) close() error      { return l.tpm.Close() }
func (l *emulatorLink) setupNeeded() bool { return l.tpm.SetupNeeded() }
func (l *emulatorLink) setupDone() error  { return l.tpm.SetupDone() }

// askOnce sends one command over a connection of its own.
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

// listening reports whether swtpm takes connections. Its queue being full says
// that it does.
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
