package cli

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"golang.org/x/term"

	"maclef/internal/printable"
)

// A screen is the line of the terminal that shows progress, prompts and notes.
type screen struct {
	mu          sync.Mutex
	shown       int       // columns of the progress that the line shows
	ownProgress int       // number of the command's own progress displays
	paused      int       // number of waits for something else than the TPM
	resumed     time.Time // when the last prompt or pause ended
	ending      bool      // a signal has come: show nothing more
}

// clear erases the progress from the line. The caller holds mu.
func (s *screen) clear(w io.Writer) {
	if s.shown > 0 {
		fmt.Fprintf(w, "\r%s\r", strings.Repeat(" ", s.shown))
		s.shown = 0
	}
}

// show replaces the line with text and end. It cuts text if the terminal is too narrow. The
// caller holds mu.
func (s *screen) show(w io.Writer, text, end string, width int) {
	room := max(0, width-1-utf8.RuneCountInString(end))
	if runes := []rune(text); len(runes) > room {
		text = string(runes[:room])
	}
	columns := utf8.RuneCountInString(text + end)
	fmt.Fprintf(w, "\r%s%s%s", text, end, strings.Repeat(" ", max(0, s.shown-columns)))
	s.shown = columns
}

// lockScreen reserves the line for a prompt until unlock is called.
func (e *Env) lockScreen() (unlock func()) {
	s := &e.screen
	s.mu.Lock()
	s.clear(e.Stderr)
	return func() {
		s.resumed = time.Now()
		s.mu.Unlock()
	}
}

// pause shows no progress until resume is called, because the command waits for something
// else than the TPM. Notes are still printed.
func (e *Env) pause() (resume func()) {
	s := &e.screen
	s.mu.Lock()
	defer s.mu.Unlock()
	s.clear(e.Stderr)
	s.paused++
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.paused--
		s.resumed = time.Now()
	}
}

// hideProgress removes the progress for good, because a signal has come.
func (e *Env) hideProgress() {
	s := &e.screen
	if s.mu.TryLock() { // otherwise a prompt has the line, and no progress is shown
		defer s.mu.Unlock()
		s.clear(e.Stderr)
		s.ending = true
	}
}

// A progress is an operation that takes time.
type progress struct {
	what     string
	begin    time.Time
	delay    time.Duration // show it after this time
	fallback bool          // show it only if the command has no progress of its own
}

const (
	// progressDelay avoids showing progress of short operations.
	progressDelay = 300 * time.Millisecond
	// waitDelay is how long a command waits for a TPM before it says so.
	waitDelay = 2 * time.Second
)

// Progress shows "name: what… 12 s" on standard error until the returned function is
// called, which may be called several times. The time of prompts and notes in between does
// not count. Call the function before you print anything else. If standard error is not a
// terminal, Progress shows nothing.
func (e *Env) Progress(what string) (done func()) {
	if !IsTerminal(e.Stderr) {
		return func() {}
	}
	e.addOwnProgress(1)
	unwatch := OnSignal(e.hideProgress)
	end := e.run(&progress{what: what, begin: time.Now(), delay: progressDelay})
	return sync.OnceFunc(func() {
		end()
		e.addOwnProgress(-1)
		unwatch()
	})
}

func (e *Env) addOwnProgress(n int) {
	e.screen.mu.Lock()
	defer e.screen.mu.Unlock()
	e.screen.ownProgress += n
}

// AwaitTPM is Progress for using a TPM; name may be empty. It shows progress after two
// seconds, and only if the command shows no progress of its own.
func (e *Env) AwaitTPM(name string) (done func()) {
	if !IsTerminal(e.Stderr) {
		return func() {}
	}
	unwatch := OnSignal(e.hideProgress)
	end := e.awaitTPM(name)
	return func() {
		end()
		unwatch()
	}
}

// awaitTPM is AwaitTPM for a caller that handles signals.
func (e *Env) awaitTPM(name string) (done func()) {
	if !IsTerminal(e.Stderr) {
		return func() {}
	}
	what := "waiting for the TPM"
	if name != "" {
		what += " " + name
	}
	return e.run(&progress{what: what, begin: time.Now(), delay: waitDelay, fallback: true})
}

// run shows a progress until the returned function is called.
func (e *Env) run(p *progress) (end func()) {
	stop := make(chan struct{})
	finished := make(chan struct{})
	go func() {
		defer close(finished)
		wait := time.NewTimer(p.delay)
		defer wait.Stop()
		for {
			select {
			case <-stop:
				return
			case <-wait.C:
			}
			wait.Reset(e.tick(p))
		}
	}()
	return sync.OnceFunc(func() {
		close(stop)
		<-finished
		e.screen.mu.Lock()
		defer e.screen.mu.Unlock()
		e.screen.clear(e.Stderr)
	})
}

// tick shows the seconds since begin, unless a prompt has the line. It returns when to call
// it again.
func (e *Env) tick(p *progress) time.Duration {
	s := &e.screen
	if !s.mu.TryLock() {
		return p.delay
	}
	defer s.mu.Unlock()
	begin := p.begin
	if s.resumed.After(begin) {
		begin = s.resumed
	}
	took := time.Since(begin)
	switch {
	case took < p.delay:
		return p.delay - took
	case s.ending, s.paused > 0, p.fallback && s.ownProgress > 0:
	default:
		s.show(e.Stderr, e.Name+": "+printable.Text(p.what), fmt.Sprintf("… %d s", int(took/time.Second)), e.columns())
	}
	return time.Second - took%time.Second
}

// columns returns the width of the terminal.
func (e *Env) columns() int {
	const usual = 80
	fd, ok := terminalFd(e.Stderr)
	if !ok {
		return usual
	}
	if width, _, err := term.GetSize(fd); err == nil && width > 0 {
		return width
	}
	return usual
}
