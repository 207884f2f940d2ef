package tpmkey

import (
	"errors"
	"slices"
)

// An Occupant is a key or a session that is in the TPM now, and not this process's.
type Occupant struct {
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
func (t *TPM) Loaded() (all []Occupant, err error) {
	err = t.simply(func() (err error) {
		all, err = t.loadedNow()
		return err
	})
	return all, doingError("list what is loaded", err)
}

func (t *TPM) loadedNow() ([]Occupant, error) {
	if !t.dev.Bare() {
		return nil, nil
	}
	keys, sessions, err := t.leftBehind()
	if err != nil {
		return nil, err
	}
	saved, err := t.chip.saved()
	if err != nil && t.chip.classOf(err) != classRefused { // some chips do not list them
		return nil, err
	}
	own := t.savedNumbers()
	saved = slices.DeleteFunc(saved, func(number uint32) bool { return own[number] != nil })
	var all []Occupant
	for _, of := range []struct {
		handles []uint32
		like    Occupant
	}{{keys, Occupant{}}, {sessions, Occupant{Session: true}}, {saved, Occupant{Session: true, Saved: true}}} {
		for _, h := range of.handles {
			o := of.like
			o.Handle = h
			all = append(all, o)
		}
	}
	return all, nil
}

// FlushLeftovers frees the keys and sessions that Loaded lists, saved ones only where that
// is said: a living program may want to bring those back, and has to ask for its secret
// again. It removes contexts on disk, too (see OpenOptions.NoCache). It returns how many
// keys and sessions they were.
func (t *TPM) FlushLeftovers(saved bool) (keys, sessions int, err error) {
	err = t.simply(func() error {
		keys, sessions = 0, 0 // it may be done again
		if err := t.contexts.cache.Empty(); err != nil {
			return err
		}
		all, err := t.loadedNow()
		if err != nil {
			return err
		}
		var errs []error
		// Sessions come last in all, and first here: a key takes along those that were
		// opened for it.
		for _, o := range slices.Backward(all) {
			switch {
			case o.Saved && !saved:
				continue
			case o.Saved:
				err = t.chip.flushSaved(o.Handle)
			case o.Session:
				err = t.chip.flushSession(o.Handle)
			default:
				err = t.chip.flushKey(o.Handle)
			}
			switch {
			case err != nil:
				errs = append(errs, err)
			case o.Session:
				sessions++
			default:
				keys++
			}
		}
		return errors.Join(errs...)
	})
	return keys, sessions, doingError("flush what was left behind", err)
}
