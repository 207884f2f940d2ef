package main

import (
	"fmt"
	"io"
	"log/syslog"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// readyVariable tells a background process the number of the descriptor on which
// it says that the directory is mounted.
const readyVariable = "ECRYPTMOUNT_READY"

// wantsFork reports whether -fork stands in args, and this is not the background
// process yet. It looks before the flags are parsed, which takes hold of the
// descriptors of secrets (fd:3) that the background process is to have.
func wantsFork(args []string) bool {
	if os.Getenv(readyVariable) != "" {
		return false
	}
	wants := false
	for _, arg := range args {
		if arg == "--" {
			break
		}
		name, value, given := strings.Cut(arg, "=")
		if name == "-fork" || name == "--fork" {
			wants = true
			if given {
				wants, _ = strconv.ParseBool(value) // what is no boolean is refused when it is parsed
			}
		}
	}
	return wants
}

// startBackground runs the command again and returns when that has mounted the
// directory, or ended; then with its exit status. Until it is mounted the new
// process has terminal and messages as the first one had them, so that it asks for
// secrets and says itself what is wrong.
func startBackground(args []string) (status int, err error) {
	ready, w, err := os.Pipe()
	if err != nil {
		return 0, fmt.Errorf("start in the background: %w", err)
	}
	defer ready.Close()
	// The number is a free one: those of secrets (fd:3) are taken already.
	fd := int(w.Fd())
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_SETFD, 0); err != nil {
		return 0, fmt.Errorf("start in the background: %w", err)
	}
	args, secrets := hideSecrets(args)
	cmd := exec.Command("/proc/self/exe", args...)
	cmd.Args[0] = os.Args[0]
	cmd.Env = append(append(os.Environ(), secrets...), readyVariable+"="+strconv.Itoa(fd))
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	if err := cmd.Start(); err != nil {
		return 0, fmt.Errorf("start in the background: %w", err)
	}
	w.Close()
	closeInherited() // they are the other process's now
	defer forward(cmd.Process)()
	if n, _ := ready.Read(make([]byte, 1)); n == 1 {
		return 0, nil
	}
	_ = cmd.Wait()
	if status = cmd.ProcessState.ExitCode(); status <= 0 { // killed, or without a word
		status = 1
	}
	return status, nil
}

// secretVariable, and a number, are the environment variables of secrets that were
// given as pass:TEXT.
const secretVariable = "ECRYPTMOUNT_SECRET_"

// hideSecrets moves secrets from the command line, which every user of the machine
// can read for as long as the process lives, to the environment, which only root
// can.
func hideSecrets(args []string) (hidden, env []string) {
	const form = "pass:"
	for i, arg := range args {
		before, value := "", arg
		if name, v, ok := strings.Cut(arg, "="); ok && strings.HasSuffix(name, "-pass") {
			before, value = name+"=", v
		} else if i == 0 || !strings.HasSuffix(args[i-1], "-pass") {
			hidden = append(hidden, arg)
			continue
		}
		encoding := ""
		if text, ok := strings.CutPrefix(value, "utf16:"); ok {
			encoding, value = "utf16:", text
		}
		if text, ok := strings.CutPrefix(value, form); ok {
			name := secretVariable + strconv.Itoa(len(env))
			env = append(env, name+"="+text)
			value = "env:" + name
		}
		hidden = append(hidden, before+encoding+value)
	}
	return hidden, env
}

// forward has the signals that end this process end the other one.
func forward(to *os.Process) (stop func()) {
	incoming := make(chan os.Signal, 4)
	signal.Notify(incoming, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	go func() {
		for sig := range incoming {
			// A terminal sends SIGINT to both; then it arrives twice, which before
			// the directory is mounted is once.
			_ = to.Signal(sig)
		}
	}()
	return func() {
		signal.Stop(incoming)
		close(incoming)
	}
}

// A background is how a process stands to the one that started it with -fork. The
// zero value is for a process in the foreground.
type background struct {
	ready    int // descriptor to say a word on, 0 in the foreground
	detached bool
	out      *outlet
}

// newBackground finds out whether this is a background process. Its messages, and
// those of others that are to follow them, go to out.
func newBackground(out *outlet) *background {
	b := &background{out: out}
	if fd, err := strconv.Atoi(os.Getenv(readyVariable)); err == nil && fd > 2 {
		b.ready = fd
		unix.CloseOnExec(fd)
		_ = os.WriteFile("/proc/self/comm", []byte("ecryptmount"), 0) // for ps, instead of "exe"
	}
	os.Unsetenv(readyVariable)
	return b
}

// detach goes to the background, in the background process: away from the
// terminal, with messages to syslog.
func (b *background) detach() {
	if b.ready == 0 {
		return
	}
	log, err := syslog.New(syslog.LOG_DAEMON|syslog.LOG_NOTICE, "ecryptmount")
	if err != nil {
		fmt.Fprintln(b.out, "ecryptmount: note: no syslog answers on this system; further messages are lost")
		b.out.set(io.Discard)
	} else {
		b.out.set(logWriter{log})
	}
	_, _ = unix.Setsid()
	if null, err := unix.Open("/dev/null", unix.O_RDWR|unix.O_CLOEXEC, 0); err == nil {
		for fd := range 3 {
			_ = unix.Dup3(null, fd, 0)
		}
		unix.Close(null)
	}
	b.detached = true
	_, _ = unix.Write(b.ready, []byte{1})
	unix.Close(b.ready)
}

// closeInherited closes descriptors that whoever started the command left open: a
// file in the directory among them would keep it in use for ever. Those of secrets
// were taken care of before, as every other of this process.
func closeInherited() {
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return
	}
	for _, entry := range fds {
		fd, err := strconv.Atoi(entry.Name())
		if err != nil || fd <= 2 {
			continue
		}
		if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err == nil && flags&unix.FD_CLOEXEC == 0 {
			unix.Close(fd)
		}
	}
}

// An outlet is standard error, until something else takes its place.
type outlet struct {
	mu sync.Mutex
	w  io.Writer
}

func (o *outlet) set(w io.Writer) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.w = w
}

func (o *outlet) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.w.Write(p)
}

// Fd makes the outlet a terminal to those who ask, if it is one.
func (o *outlet) Fd() uintptr {
	o.mu.Lock()
	defer o.mu.Unlock()
	if file, ok := o.w.(interface{ Fd() uintptr }); ok {
		return file.Fd()
	}
	return ^uintptr(0)
}

// logWriter takes off what syslog puts in front itself.
type logWriter struct{ log *syslog.Writer }

func (l logWriter) Write(p []byte) (int, error) {
	text := strings.TrimPrefix(string(p), "ecryptmount: ")
	var err error
	if strings.HasPrefix(text, "error: ") {
		err = l.log.Err(text)
	} else {
		err = l.log.Notice(text)
	}
	return len(p), err
}
