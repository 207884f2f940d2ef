package main

import (
	"bytes"
	"fmt"
	"io"
	"sync"
	"time"

	"maclef/internal/cli"
)

// Lines that clients can cause at will are limited to so many in so much time.
const (
	limitedLines  = 10
	limitedPeriod = 10 * time.Second
)

// A logger writes the log on standard error. It is safe for concurrent use, and an
// io.Writer for log.Logger.
type logger struct {
	mu  sync.Mutex
	out io.Writer

	window  time.Time // when lines and dropped were zero
	lines   int       // limited ones, written since
	dropped int       // limited ones, not written since

	outage   outage
	overload overloadLog
}

func newLogger(out io.Writer) *logger { return &logger{out: out} }

// printf writes one line with the time.
func (l *logger) printf(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.write(format, args...)
}

// write is printf under mu.
func (l *logger) write(format string, args ...any) {
	text := time.Now().Format("2006-01-02 15:04:05 ") + fmt.Sprintf(format, args...) + "\n"
	io.WriteString(l.out, text) // there is nowhere to report an error
}

// limitedf writes a line that clients can cause at will. If there are too many of them,
// it only counts them.
func (l *logger) limitedf(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if now := time.Now(); now.Sub(l.window) >= limitedPeriod {
		l.writeDropped()
		l.window, l.lines = now, 0
		time.AfterFunc(limitedPeriod, l.flush)
	}
	if l.lines == limitedLines {
		l.dropped++
		return
	}
	l.lines++
	l.write(format, args...)
}

// flush writes how many lines were dropped.
func (l *logger) flush() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.writeDropped()
}

// end writes what was only counted so far.
func (l *logger) end() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.writeDropped()
	l.writeOverload()
	l.writeFailures("since then")
}

func (l *logger) writeDropped() {
	if l.dropped > 0 {
		l.write("… and %s like these", cli.Counted(l.dropped, "line"))
		l.dropped = 0
	}
}

// Write logs a line of the HTTP server.
func (l *logger) Write(p []byte) (int, error) {
	l.limitedf("%s", shortText(string(bytes.TrimSpace(p)), 500))
	return len(p), nil
}

// An overloadLog counts what happens while there are more clients than can be served.
// That may be thousands of times, so the counts are written once in a while.
type overloadLog struct {
	gaveUp  int    // clients, before the key had signed
	reason  string // of the last of them
	evicted int    // connections, to make room for others
}

// clientGaveUp records that a client did not wait for its signature.
func (l *logger) clientGaveUp(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.scheduleOverload()
	l.overload.gaveUp++
	l.overload.reason = shortText(err.Error(), 300)
}

// connEvicted records that a connection was closed to make room.
func (l *logger) connEvicted() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.scheduleOverload()
	l.overload.evicted++
}

// scheduleOverload has the counts written later, if they are zero now. It runs under mu.
func (l *logger) scheduleOverload() {
	if l.overload != (overloadLog{}) {
		return
	}
	time.AfterFunc(limitedPeriod, func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.writeOverload()
	})
}

// writeOverload writes the counts. It runs under mu.
func (l *logger) writeOverload() {
	if l.overload.gaveUp > 0 {
		l.write("%s gave up before the TPM had signed; the last: %s", cli.Counted(l.overload.gaveUp, "client"), l.overload.reason)
	}
	if l.overload.evicted > 0 {
		l.write("closed %s to make room for others", cli.Counted(l.overload.evicted, "connection"))
	}
	l.overload = overloadLog{}
}
