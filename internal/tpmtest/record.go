package tpmtest

import (
	"slices"
	"sync"

	"maclef/internal/transport/frame"
)

// An Exchange is one command and its result.
type Exchange struct {
	Ordinal  uint32 // of the command; 0 if only its beginning arrived
	Command  []byte
	Response []byte
	Err      error
}

// Name returns the command's name, such as "TPM2_Load".
func (e Exchange) Name() string { return CommandName(e.Command) }

// Code returns the result code of the response, and whether there was a response.
func (e Exchange) Code() (code uint32, answered bool) {
	return frame.Code(e.Response), len(e.Response) >= 10
}

// Sessions returns the sessions of a TPM 2.0 command, without the handle that stands for a
// password.
func (e Exchange) Sessions() []uint32 {
	_, sessions := Parts20(e.Command)
	return slices.DeleteFunc(sessions, func(s uint32) bool { return s == passwordSession })
}

// A record is the list of exchanges.
type record struct {
	mu  sync.Mutex
	log []Exchange
}

// Exchanges returns a copy of the record since the last Arm or Reset, oldest first. It
// contains the commands and responses that the client has sent and received.
func (r *record) Exchanges() []Exchange {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.log)
}

// Count returns how many commands of the record have one of these ordinals; without
// ordinals, the number of all commands.
func (r *record) Count(ordinals ...uint32) int {
	n := 0
	for _, e := range r.Exchanges() {
		if len(ordinals) == 0 || slices.Contains(ordinals, e.Ordinal) {
			n++
		}
	}
	return n
}
