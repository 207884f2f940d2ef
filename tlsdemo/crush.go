package main

import (
	"time"

	"maclef/internal/cli"
)

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
