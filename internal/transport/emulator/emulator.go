// Package emulator runs swtpm, a software TPM, over a directory. It protects nothing:
// its keys are in a file.
//
// All users of a directory share one swtpm, and take turns at its socket. swtpm ends
// with the last of them; one that ends before is started anew. It is for Linux.
package emulator

import (
	"errors"
	"slices"
	"time"
)

// Why an emulator cannot be used.
var (
	// ErrLocked: others did not give up a lock in time.
	ErrLocked = errors.New("locked by others")
	// ErrOtherSWTPM is a start that failed because the state is in use.
	ErrOtherSWTPM = errors.New("another swtpm is running over this directory: stop it, or connect to its socket with unix:PATH")
	// ErrKilled is a TPM that was started, and ended at once, for no reason of its own.
	ErrKilled = errors.New("it left no message: somebody may have killed it; try again")
)

// Options say how to reach swtpm, and how long to wait for it.
type Options struct {
	Start time.Duration // swtpm to start, or an old one to end
	Probe time.Duration // a living TPM answers a short command within this

	// Ask sends one command over a connection of its own to a socket.
	Ask func(socket string, cmd []byte, limit time.Duration) error
	// Listening reports whether a socket takes connections.
	Listening func(socket string) error
}

// A Model is a generation of TPM, as swtpm makes it.
type Model struct {
	Form  string // how its names begin: "emulator"
	First byte   // of its commands

	text    string   // for messages
	base    string   // of its default directory
	stem    string   // what the names of swtpm's files begin with
	options []string // swtpm's
	setup   bool     // a new one has to be set up
	orderly bool     // it wants to be told when it will be switched off
}

var models = []*Model{
	{Form: "emulator", text: "TPM 1.2", base: "tpm12", stem: "tpm-00", setup: true},
	{Form: "emulator2", text: "TPM 2.0", base: "tpm20", stem: "tpm2-00", options: []string{"--tpm2"}, First: 0x80, orderly: true},
}

// ModelOf returns the model whose names begin with form, "emulator" or "emulator2".
func ModelOf(form string) *Model {
	return models[slices.IndexFunc(models, func(m *Model) bool { return m.Form == form })]
}

func (m *Model) String() string { return m.text }

// stateFile is where swtpm keeps what a TPM keeps without power.
func (m *Model) stateFile() string { return m.stem + ".permall" }
