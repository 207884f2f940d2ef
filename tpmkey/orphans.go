package tpmkey

import (
	"context"

	"maclef/internal/chip"
)

// A LoadedObject is a key or a session in the TPM that is not this process's.
type LoadedObject struct {
	Handle  uint32 `json:"handle"`
	Session bool   `json:"session"` // an authorization session, else a key
	// Saved means that the session is saved outside the TPM, and can be restored once; Handle is
	// the TPM's number for it. Programs that may not keep a secret save the session between two
	// uses of a key. tpm2_startauthsession -S and others save sessions, too.
	Saved bool `json:"saved,omitempty"`
}

// Loaded returns what other programs have left in a bare TPM: keys and sessions that are loaded
// during this process's turn, and saved sessions. Programs of this project leave nothing loaded
// unless they are killed. Behind the kernel's resource manager, and on a transport of
// OpenTransport, the result is empty.
func (t *TPM) Loaded(ctx context.Context) (all []LoadedObject, err error) {
	loaded, err := t.m.Loaded(ctx)
	for _, o := range loaded {
		all = append(all, LoadedObject{o.Handle, o.Kind != chip.Keys, o.Kind == chip.SavedSessions})
	}
	return all, doingError("list what is loaded", err)
}

// FlushOrphans flushes the keys and sessions that Loaded lists. It flushes saved sessions only if
// saved is true: another program may still need them, and would have to ask for its secret again.
// It also removes the contexts on disk (see OpenOptions.NoCache). It returns how many keys and
// sessions it flushed.
func (t *TPM) FlushOrphans(ctx context.Context, saved bool) (keys, sessions int, err error) {
	keys, sessions, err = t.m.FlushLoaded(ctx, saved)
	return keys, sessions, doingError("flush what was left behind", err)
}
