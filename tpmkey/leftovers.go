package tpmkey

import (
	"context"

	"maclef/internal/chip"
)

// An Occupant is a key or a session that is in the TPM now, and not this process's.
type LoadedObject struct {
	Handle  uint32 `json:"handle"`
	Session bool   `json:"session"` // an authorization session, else a key
	// Saved says that the session was taken out of the TPM, to be brought back once: the
	// handle is a number by which the TPM knows it. Programs that may not keep a secret do
	// that between two uses of a key, and others, such as tpm2_startauthsession -S.
	Saved bool `json:"saved,omitempty"`
}

// Loaded returns what others have left in a bare TPM: keys and sessions that are loaded
// there while this process has it, which no program of this project leaves unless it is
// killed, and saved sessions. Behind the kernel's resource manager, and on a caller's
// transport, that is not this process's business: there is nothing.
func (t *TPM) Loaded(ctx context.Context) (all []LoadedObject, err error) {
	loaded, err := t.m.Loaded(ctx)
	for _, o := range loaded {
		all = append(all, LoadedObject{o.Handle, o.Kind != chip.Keys, o.Kind == chip.SavedSessions})
	}
	return all, doingError("list what is loaded", err)
}

// FlushLeftovers frees the keys and sessions that Loaded lists, saved ones only where that
// is said: a living program may want to bring those back, and has to ask for its secret
// again. It removes contexts on disk, too (see OpenOptions.NoCache). It returns how many
// keys and sessions they were.
func (t *TPM) FlushOrphans(ctx context.Context, saved bool) (keys, sessions int, err error) {
	keys, sessions, err = t.m.FlushLoaded(ctx, saved)
	return keys, sessions, doingError("flush what was left behind", err)
}
