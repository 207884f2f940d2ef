// Package emulator runs swtpm, a software TPM, over a directory. It is for Linux. It
// protects nothing: its keys are in a file.
//
// All users of a directory share one swtpm and take turns at its socket. swtpm ends with
// its last user. If it ends earlier, a user starts it again.
package emulator

import (
	"errors"
	"maclef/internal/transport/frame"
	"slices"
	"time"
)

// Reasons why an emulator cannot be used.
var (
	// ErrLocked: other processes held a lock for too long.
	ErrLocked = errors.New("locked by others")
	// ErrOtherSWTPM: swtpm did not start because another one uses the state.
	ErrOtherSWTPM = errors.New("another swtpm is running over this directory: stop it, or connect to its socket with unix:PATH")
	// ErrKilled: swtpm ended right after its start and left no message.
	ErrKilled = errors.New("it left no message: somebody may have killed it; try again")
)

// Options say how to reach swtpm, and how long to wait for it.
type Options struct {
	Start time.Duration // how long swtpm may take to start, or an old one to end
	Probe time.Duration // how long a running TPM may take for a short command

	// Ask sends one command to a socket, over a new connection.
	Ask func(socket string, cmd []byte, limit time.Duration) error
	// Listening returns nil if a socket takes connections.
	Listening func(socket string) error
}

// A Model is swtpm as a TPM of one generation.
type Model struct {
	Form  string // how the names of its TPMs begin: "emulator"
	First byte   // first byte of its commands

	text          string   // name, for messages
	base          string   // name of its default directory
	stem          string   // how the names of swtpm's files begin
	options       []string // of swtpm
	setup         bool     // a new TPM has to be set up
	needsShutdown bool     // send TPM2_Shutdown before it ends
}

var models = []*Model{
	{Form: "emulator", text: "TPM 1.2", base: "tpm12", stem: "tpm-00", setup: true},
	{Form: "emulator2", text: "TPM 2.0", base: "tpm20", stem: "tpm2-00", options: []string{"--tpm2"}, First: 0x80, needsShutdown: true},
}

// ModelOf returns the model for the form "emulator" or "emulator2".
func ModelOf(form string) *Model {
	return models[slices.IndexFunc(models, func(m *Model) bool { return m.Form == form })]
}

func (m *Model) String() string { return m.text }

// stateFile is where swtpm stores the TPM's non-volatile state.
func (m *Model) stateFile() string { return m.stem + ".permall" }

// FailureProbe returns a command that a TPM refuses in failure mode. TPM Main Part 3, section 20.1
// (TPM_GetTicks); TPM 2.0 Library Part 3, section 29.1 (TPM2_ReadClock).
func (m *Model) FailureProbe() []byte {
	if m.First == 0 {
		return []byte{0x00, 0xC1, 0, 0, 0, 10, 0, 0, 0, 0xF1}
	}
	return []byte{0x80, 0x01, 0, 0, 0, 10, 0, 0, 0x01, 0x81}
}

// Result codes of a TPM that could not write its state. TPM_FAIL and TPM_RC_FAILURE have other
// causes, too.
const (
	tpmFail             = 0x09  // TPM_FAIL
	failedSelfTest      = 0x1C  // TPM_FAILEDSELFTEST
	auditFailSuccessful = 0x31  // TPM_AUDITFAIL_SUCCESSFUL, of the command that could not write
	rcFailure           = 0x101 // TPM_RC_FAILURE
)

// Failed reports whether a response may be that of a TPM in failure mode. That of FailureProbe is.
func (m *Model) Failed(rsp []byte) bool {
	switch frame.Code(rsp) {
	case tpmFail, failedSelfTest, auditFailSuccessful:
		return m.First == 0
	case rcFailure:
		return m.First != 0
	}
	return false
}
