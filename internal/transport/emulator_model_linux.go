package transport

import (
	"context"
	"path/filepath"
	"slices"
	"syscall"
	"time"
)

// A model is a generation of TPM, as the emulator makes it.
type model struct {
	form    string   // how its names begin
	text    string   // for messages
	base    string   // of its default directory
	stem    string   // what the names of swtpm's files begin with
	options []string // swtpm's
	first   byte     // of its commands
	setup   bool     // a new one has to be set up
	orderly bool     // it wants to be told when it will be switched off
}

var models = []*model{
	{form: "emulator", text: "TPM 1.2", base: "tpm12", stem: "tpm-00", setup: true},
	{form: "emulator2", text: "TPM 2.0", base: "tpm20", stem: "tpm2-00", options: []string{"--tpm2"}, first: 0x80, orderly: true},
}

// modelOf returns the model whose names begin with form.
func modelOf(form string) *model {
	return models[slices.IndexFunc(models, func(m *model) bool { return m.form == form })]
}

func (m *model) String() string { return m.text }

// stateFile is where swtpm keeps what a TPM keeps without power.
func (m *model) stateFile() string { return m.stem + ".permall" }

// shutdownCommand is TPM2_Shutdown(TPM_SU_CLEAR): TPM 2.0 Library Part 3, section 9.4
// (TPM2_Shutdown).
var shutdownCommand = [12]byte{0x80, 0x01, 5: 12, 8: 0x01, 9: 0x45}

// shutdownLimit is how long somebody else may keep the TPM busy at its end.
const shutdownLimit = time.Second

// shutDown tells the TPM that it will be switched off, if this is its last user: a
// TPM 2.0 that is switched off without a word counts a wrong secret if any secret was
// used. TPM 2.0 Library Part 1, section on the lockout mode (dictionary attack). The
// lock keeps newcomers away; whether or not it can be had, the users' lock is lost.
func (e *emulator) shutDown() {
	if flock(e.users, syscall.LOCK_EX|syscall.LOCK_NB) != nil {
		return
	}
	e.ask(shutdownCommand[:], shutdownLimit) // in vain where swtpm was killed
}

// ask sends one command over a connection of its own.
func (e *emulator) ask(cmd []byte, limit time.Duration) error {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	conn, err := dialStream(ctx, "unix", filepath.Join(e.path, dataSocket))
	if err != nil {
		return err
	}
	defer conn.Close()
	_, err = exchange(conn, cmd, limit)
	return err
}
