package keymgr

import (
	"context"
	"errors"
	"slices"

	"maclef/internal/chip"
)

// A LoadedObject is something in the TPM that is not this process's.
type LoadedObject struct {
	Kind   chip.Kind
	Handle uint32 // for a saved session, the number by which the TPM knows it
}

// Loaded returns what others have left in a bare TPM. Elsewhere there is nothing: that is
// not this process's business.
func (m *Manager) Loaded(ctx context.Context) (all []LoadedObject, err error) {
	err = m.Run(ctx, func() (err error) {
		all, err = m.loadedNow()
		return err
	})
	return all, err
}

func (m *Manager) loadedNow() (all []LoadedObject, err error) {
	if !m.dev.Bare() {
		return nil, nil
	}
	for _, kind := range []chip.Kind{chip.Keys, chip.Sessions, chip.SavedSessions} {
		orphans, err := m.orphans(kind)
		if err != nil && (kind != chip.SavedSessions || m.chip.ClassOf(err) != chip.ClassRefused) { // some chips do not list those
			return nil, err
		}
		for _, h := range orphans {
			all = append(all, LoadedObject{kind, h})
		}
	}
	return all, nil
}

// FlushLoaded frees what Loaded lists, saved sessions only where that is said, and empties
// the cache. It returns how many keys and sessions it freed.
func (m *Manager) FlushLoaded(ctx context.Context, saved bool) (keys, sessions int, err error) {
	err = m.Run(ctx, func() error {
		keys, sessions = 0, 0 // it may be done again
		if err := m.cache.Empty(); err != nil {
			return err
		}
		all, err := m.loadedNow()
		if err != nil {
			return err
		}
		var errs []error
		// Sessions come last in all, and first here: a key takes along those that were
		// opened for it.
		for _, o := range slices.Backward(all) {
			if o.Kind == chip.SavedSessions && !saved {
				continue
			}
			err := m.chip.Flush(o.Kind, o.Handle)
			switch {
			case err != nil:
				errs = append(errs, err)
			case o.Kind == chip.Keys:
				keys++
			default:
				sessions++
			}
		}
		return errors.Join(errs...)
	})
	return keys, sessions, err
}
