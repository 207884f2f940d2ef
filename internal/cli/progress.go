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

// A screen is the line of the terminal that progress is shown on, and that
// prompts and notes need for themselves.
type screen struct {
	mu     sync.Mutex
	shown  int       // columns of progress on the current line
	own    int       // progress of the command's own that is under way
	paused int       // others than the TPM that are waited for
	free   time.Time // when a prompt, or a pause, ended
	ending bool      // a signal has come: nothing is shown any more
}

// clear wipes the progress off the line. The caller holds mu.
func (s *screen) clear(w io.Writer) {
	if s.shown > 0 {
		fmt.Fprintf(w, "\r%s\r", strings.Repeat(" ", s.shown))
		s.shown = 0
	}
}

// show replaces the line by two texts, of which the first is cut where the terminal is
// too narrow. The caller holds mu.
func (s *screen) show(w io.Writer, text, end string, width int) {
	room := max(0, width-1-utf8.RuneCountInString(end))
	if runes := []rune(text); len(runes) > room {
		text = string(runes[:room])
	}
	columns := utf8.RuneCountInString(text + end)
	fmt.Fprintf(w, "\r%s%s%s", text, end, strings.Repeat(" ", max(0, s.shown-columns)))
	s.shown = columns
}

// takeScreen gives the line to a prompt, until give is called.
func (e *Env) takeScreen() (give func()) {
	s := &e.screen
	s.mu.Lock()
	s.clear(e.Stderr)
	return func() {
		s.free = time.Now()
		s.mu.Unlock()
	}
}

// pause shows no progress until resume is called: what is waited for meanwhile is not
// the TPM. Notes may come in between.
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
		s.free = time.Now()
	}
}

// hide takes the progress away for good: a signal has come.
func (e *Env) hide() {
	s := &e.screen
	if s.mu.TryLock() { // else a prompt has the line, and nothing is shown
		defer s.mu.Unlock()
		s.clear(e.Stderr)
		s.ending = true
	}
}

// A progress is something that takes its time.
type progress struct {
	what  string
	begin time.Time
	delay time.Duration // it is shown when it has taken this long
	spare bool          // it is shown where the command has no progress of its own
}

const (
	// progressDelay spares the terminal what is over at once.
	progressDelay = 300 * time.Millisecond
	// waitDelay is how long a TPM may keep a command waiting without a word.
	waitDelay = 2 * time.Second
)

// Progress shows "name: what… 12 s" on standard error while something takes its
// time, and takes it away when the returned function is called (as often as you
// like). Prompts and notes may come in between, and their time does not count; call it
// before anything else is printed. Where standard error is no terminal it shows nothing.
func (e *Env) Progress(what string) (done func()) {
	if !IsTerminal(e.Stderr) {
		return func() {}
	}
	e.addOwn(1)
	unwatch := OnSignal(e.hide)
	end := e.run(&progress{what: what, begin: time.Now(), delay: progressDelay})
	return sync.OnceFunc(func() {
		end()
		e.addOwn(-1)
		unwatch()
	})
}

func (e *Env) addOwn(n int) {
	e.screen.mu.Lock()
	defer e.screen.mu.Unlock()
	e.screen.own += n
}

// AwaitTPM is Progress for using a TPM, whose name may be unknown. It is shown only after
// two seconds, and not where the command shows progress of its own.
func (e *Env) AwaitTPM(name string) (done func()) {
	if !IsTerminal(e.Stderr) {
		return func() {}
	}
	unwatch := OnSignal(e.hide)
	end := e.awaitTPM(name)
	return func() {
		end()
		unwatch()
	}
}

// awaitTPM is AwaitTPM for a caller who sees to signals.
func (e *Env) awaitTPM(name string) (done func()) {
	if !IsTerminal(e.Stderr) {
		return func() {}
	}
	what := "waiting for the TPM"
	if name != "" {
		what += " " + name
	}
	return e.run(&progress{what: what, begin: time.Now(), delay: waitDelay, spare: true})
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

// tick shows the seconds since begin, but not in the middle of a prompt. It returns
// after which time it wants to be called again.
func (e *Env) tick(p *progress) time.Duration {
	s := &e.screen
	if !s.mu.TryLock() {
		return p.delay
	}
	defer s.mu.Unlock()
	begin := p.begin
	if s.free.After(begin) {
		begin = s.free
	}
	took := time.Since(begin)
	switch {
	case took < p.delay:
		return p.delay - took
	case s.ending, s.paused > 0, p.spare && s.own > 0:
	default:
		s.show(e.Stderr, e.Name+": "+printable.Text(p.what), fmt.Sprintf("… %d s", int(took/time.Second)), e.columns())
	}
	return time.Second - took%time.Second
}

// columns is the width of the terminal.
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
