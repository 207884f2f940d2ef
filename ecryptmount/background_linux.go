package main

import (
	"fmt"
	"io"
	"log/syslog"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// readyVariable tells a background process on which descriptor it reports that the directory is
// mounted.
const readyVariable = "ECRYPTMOUNT_READY"

// wantsFork reports whether args contain -fork and this is not the background process yet. It runs
// before the flags are parsed, because parsing takes the descriptors of secrets (fd:3), which the
// background process needs.
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
				wants, _ = strconv.ParseBool(value) // parsing the flags refuses a value that is no boolean
			}
		}
	}
	return wants
}

// startBackground runs the command again. It returns when the new process has mounted the
// directory, or with its exit status when it has ended. Until then the new process keeps the
// terminal and standard error, so it prompts for secrets and reports errors itself.
func startBackground(args []string) (status int, err error) {
	ready, w, err := os.Pipe()
	if err != nil {
		return 0, fmt.Errorf("start in the background: %w", err)
	}
	defer ready.Close()
	// The descriptor is a free one: those of secrets (fd:3) are open already.
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
	closeInherited() // the new process has them now
	defer forwardSignals(cmd.Process)()
	if n, _ := ready.Read(make([]byte, 1)); n == 1 {
		return 0, nil
	}
	_ = cmd.Wait()
	if status = cmd.ProcessState.ExitCode(); status <= 0 { // killed, or ended without an error
		status = 1
	}
	return status, nil
}

// secretVariable and a number make the name of an environment variable for a secret that was given
// on the command line, as pass:TEXT, hex:DIGITS or sha1:HEX.
const secretVariable = "ECRYPTMOUNT_SECRET_"

// hideSecrets moves secrets from the command line to the environment, and puts env:NAME in their
// place. Every user can read the command line of a process, but only root can read its environment.
func hideSecrets(args []string) (hidden, env []string) {
	for i, arg := range args {
		before, value := "", arg
		if name, v, ok := strings.Cut(arg, "="); ok && strings.HasSuffix(name, "-pass") {
			before, value = name+"=", v
		} else if i == 0 || !strings.HasSuffix(args[i-1], "-pass") {
			hidden = append(hidden, arg)
			continue
		}
		switch form, _, _ := strings.Cut(strings.TrimPrefix(value, "utf16:"), ":"); form {
		case "pass", "hex", "sha1":
			name := secretVariable + strconv.Itoa(len(env))
			env = append(env, name+"="+value)
			value = "env:" + name
		}
		hidden = append(hidden, before+value)
	}
	return hidden, env
}

// revealSecrets undoes hideSecrets, in the background process. Its command line stays as it is. The
// programs that it starts (modprobe, askpass) do not get the secrets.
func revealSecrets(args []string) []string {
	if os.Getenv(readyVariable) == "" {
		return args
	}
	args = slices.Clone(args)
	for i, arg := range args {
		at := strings.Index(arg, "env:"+secretVariable)
		if at < 0 {
			continue
		}
		name := arg[at+len("env:"):]
		if value, ok := os.LookupEnv(name); ok {
			args[i] = arg[:at] + value
			os.Unsetenv(name)
		}
	}
	return args
}

// forwardSignals sends the signals that end this process to the other one.
func forwardSignals(to *os.Process) (stop func()) {
	incoming := make(chan os.Signal, 4)
	signal.Notify(incoming, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	go func() {
		for sig := range incoming {
			// A terminal sends SIGINT to both processes, so it arrives twice. Before the directory
			// is mounted that counts once.
			_ = to.Signal(sig)
		}
	}()
	return func() {
		signal.Stop(incoming)
		close(incoming)
	}
}

// A background is the connection of a process to the one that started it with -fork. In the
// foreground its ready is 0.
type background struct {
	ready    int // descriptor to report on, 0 in the foreground
	detached bool
	out      *messageWriter
}

// newBackground finds out whether this is a background process. Messages go to out.
func newBackground(out *messageWriter) *background {
	b := &background{out: out}
	if fd, err := strconv.Atoi(os.Getenv(readyVariable)); err == nil && fd > 2 {
		b.ready = fd
		unix.CloseOnExec(fd)
		_ = os.WriteFile("/proc/self/comm", []byte("ecryptmount"), 0) // for ps, which would show "exe"
	}
	os.Unsetenv(readyVariable)
	return b
}

// detach sends the messages of a background process to syslog, leaves the terminal and reports that
// the directory is mounted.
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

// closeInherited closes the descriptors that the caller left open. One of a file in the directory
// would keep it busy for ever. All descriptors that this process opened itself, those of secrets
// included, are close-on-exec and stay open.
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

// A messageWriter writes to standard error until set replaces it.
type messageWriter struct {
	mu sync.Mutex
	w  io.Writer
}

func (o *messageWriter) set(w io.Writer) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.w = w
}

func (o *messageWriter) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.w.Write(p)
}

// Fd returns the descriptor of the writer, so that callers can see whether it is a terminal.
func (o *messageWriter) Fd() uintptr {
	o.mu.Lock()
	defer o.mu.Unlock()
	if file, ok := o.w.(interface{ Fd() uintptr }); ok {
		return file.Fd()
	}
	return ^uintptr(0)
}

// logWriter writes to syslog, without the program's name, which syslog adds itself.
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
