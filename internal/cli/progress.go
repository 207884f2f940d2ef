package cli

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"golang.org/x/term"
)

// A screen is the line of the terminal that progress is shown on, and that
// prompts and notes need for themselves.
type screen struct {
	mu    sync.Mutex
	shown int // columns of progress on the current line
}

// clear wipes the progress off the line. The caller holds mu.
func (s *screen) clear(w io.Writer) {
	if s.shown > 0 {
		fmt.Fprintf(w, "\r%s\r", strings.Repeat(" ", s.shown))
		s.shown = 0
	}
}

// show replaces the line. The caller holds mu.
func (s *screen) show(w io.Writer, line string, width int) {
	for utf8.RuneCountInString(line) >= width {
		_, size := utf8.DecodeLastRuneInString(line)
		line = line[:len(line)-size]
	}
	columns := utf8.RuneCountInString(line)
	fmt.Fprintf(w, "\r%s%s", line, strings.Repeat(" ", max(0, s.shown-columns)))
	s.shown = columns
}

// progressDelay spares the terminal what is over at once.
const progressDelay = 300 * time.Millisecond

// Progress shows "name: what … 12 s" on standard error while something takes its
// time, and takes it away when the returned function is called (as often as you
// like). Prompts and notes may come in between; call it before anything else is
// printed. Where standard error is no terminal it shows nothing.
func (e *Env) Progress(what string) (done func()) {
	if !IsTerminal(e.Stderr) {
		return func() {}
	}
	begin := time.Now()
	stop := make(chan struct{})
	finished := make(chan struct{})
	unwatch := OnSignal(func() {
		if e.screen.mu.TryLock() { // else a prompt has the line, and nothing is shown
			defer e.screen.mu.Unlock()
			e.screen.clear(e.Stderr)
		}
	})
	go func() {
		defer close(finished)
		wait := time.NewTimer(progressDelay)
		defer wait.Stop()
		for {
			select {
			case <-stop:
				return
			case <-wait.C:
			}
			e.tick(what, begin)
			wait.Reset(time.Second - time.Since(begin)%time.Second)
		}
	}()
	var once sync.Once
	return func() {
		once.Do(func() {
			close(stop)
			<-finished
			unwatch()
			e.screen.mu.Lock()
			defer e.screen.mu.Unlock()
			e.screen.clear(e.Stderr)
		})
	}
}

// tick shows the seconds since begin, but not in the middle of a prompt.
func (e *Env) tick(what string, begin time.Time) {
	if !e.screen.mu.TryLock() {
		return
	}
	defer e.screen.mu.Unlock()
	width := 80
	if fd, ok := terminalFd(e.Stderr); ok {
		if w, _, err := term.GetSize(fd); err == nil && w > 0 {
			width = w
		}
	}
	seconds := int(time.Since(begin) / time.Second)
	e.screen.show(e.Stderr, fmt.Sprintf("%s: %s… %d s", e.Name, printable(what), seconds), width)
}
