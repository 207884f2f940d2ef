package main

import (
	"bytes"
	"fmt"
	"io"
	"sync"
	"time"

	"maclef/internal/cli"
)

// Troubles with clients may fill so many lines in so much time.
const (
	troubleLines  = 10
	troublePeriod = 10 * time.Second
)

// A journal is the log on standard error. It is safe for concurrent use, and
// an io.Writer for log.Logger.
type journal struct {
	mu  sync.Mutex
	out io.Writer

	window  time.Time // when the lines began to be counted
	lines   int       // written since
	dropped int       // not written since

	outage outage
	crush  crush
}

func newJournal(out io.Writer) *journal { return &journal{out: out} }

// line writes one line with the time.
func (j *journal) line(format string, args ...any) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.write(format, args...)
}

// write is line under mu.
func (j *journal) write(format string, args ...any) {
	text := time.Now().Format("2006-01-02 15:04:05 ") + fmt.Sprintf(format, args...) + "\n"
	io.WriteString(j.out, text) // where the log cannot be written, nobody can be told
}

// trouble writes a line that clients can bring about at will: only so many in
// a while, and then how many there were.
func (j *journal) trouble(format string, args ...any) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if now := time.Now(); now.Sub(j.window) >= troublePeriod {
		j.tellDropped()
		j.window, j.lines = now, 0
		time.AfterFunc(troublePeriod, j.flush)
	}
	if j.lines == troubleLines {
		j.dropped++
		return
	}
	j.lines++
	j.write(format, args...)
}

// flush tells of the lines that were not written.
func (j *journal) flush() {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.tellDropped()
}

// end tells what was not told yet.
func (j *journal) end() {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.tellDropped()
	j.tellCrush()
	j.tellFailures("since then")
}

func (j *journal) tellDropped() {
	if j.dropped > 0 {
		j.write("… and %s like these", cli.Counted(j.dropped, "line"))
		j.dropped = 0
	}
}

// Write takes lines of the HTTP server's log.
func (j *journal) Write(p []byte) (int, error) {
	j.trouble("%s", printable(string(bytes.TrimSpace(p)), 500))
	return len(p), nil
}

// A crush is what happens while more clients come than can be served: thousands
// of times, so it is told once in a while, with how often.
type crush struct {
	gaveUp int    // clients, before the key had signed
	reason string // of the last of them
	pushed int    // connections, closed to make room
}

// clientGaveUp notes that a client did not wait for its signature.
func (j *journal) clientGaveUp(err error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.crowded()
	j.crush.gaveUp++
	j.crush.reason = printable(err.Error(), 300)
}

// connectionPushed notes that a connection was closed to make room.
func (j *journal) connectionPushed() {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.crowded()
	j.crush.pushed++
}

// crowded has what is noted first told in a while. It runs under mu.
func (j *journal) crowded() {
	if j.crush != (crush{}) {
		return
	}
	time.AfterFunc(troublePeriod, func() {
		j.mu.Lock()
		defer j.mu.Unlock()
		j.tellCrush()
	})
}

// tellCrush tells what was noted. It runs under mu.
func (j *journal) tellCrush() {
	if j.crush.gaveUp > 0 {
		j.write("%s gave up before the TPM had signed; the last: %s", cli.Counted(j.crush.gaveUp, "client"), j.crush.reason)
	}
	if j.crush.pushed > 0 {
		j.write("closed %s to make room for others", cli.Counted(j.crush.pushed, "connection"))
	}
	j.crush = crush{}
}
