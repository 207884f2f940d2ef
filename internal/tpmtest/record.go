package tpmtest

import (
	"slices"
	"sync"

	"maclef/internal/transport/frame"
)

// Exchange is one command and what came of it.
type Exchange struct {
	Ordinal  uint32 // of the command; 0 where only the beginning of it came
	Command  []byte
	Response []byte
	Err      error
}

// Name is what a command was, for reports: "TPM2_Load".
func (e Exchange) Name() string { return CommandName(e.Command) }

// Code is the result code of the answer, and whether there was an answer.
func (e Exchange) Code() (code uint32, answered bool) {
	return frame.Code(e.Response), len(e.Response) >= 10
}

// Sessions returns the sessions of a TPM 2.0 that authorize or encrypt a command,
// without the one that stands for a password in clear.
func (e Exchange) Sessions() []uint32 {
	_, sessions := Parts20(e.Command)
	return slices.DeleteFunc(sessions, func(s uint32) bool { return s == passwordSession })
}

// A record is what has passed.
type record struct {
	mu  sync.Mutex
	log []Exchange
}

// Exchanges returns a copy of the record since the last Arm or Reset, oldest first. It
// has the commands as they were given, and the answers as they were returned.
func (r *record) Exchanges() []Exchange {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.log)
}

// Count returns how many commands of the record had one of these ordinals; without any,
// how many there were.
func (r *record) Count(ordinals ...uint32) int {
	n := 0
	for _, e := range r.Exchanges() {
		if len(ordinals) == 0 || slices.Contains(ordinals, e.Ordinal) {
			n++
		}
	}
	return n
}
