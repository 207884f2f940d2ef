package keymgr

import (
	"context"
	"errors"
	"slices"

	"maclef/internal/chip"
)

// A LoadedObject is a key or session in the TPM that this process has not loaded.
type LoadedObject struct {
	Kind   chip.Kind
	Handle uint32 // for a saved session, the number by which the TPM knows it
}

// Loaded returns what other processes have left in a bare TPM. It returns nothing for other
// transports: there others may use what they have loaded.
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

// FlushLoaded flushes what Loaded returns, saved sessions only if saved is set, and empties
// the cache. It returns how many keys and sessions it flushed.
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
		// Sessions go first: flushing a key ends those that were opened for it.
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

// freeSlot frees a slot of the kind that class lacks, for the key h, and reports whether it
// did. In a bare TPM it frees what others have left first; then it evicts a key or session
// of this process.
func (m *Manager) freeSlot(class chip.ErrClass, h *Key) bool {
	if class == chip.ClassTooManySaved {
		return m.freeSavedSessions()
	}
	if m.dev.Bare() && m.freeOrphans(class) {
		return true
	}
	victim := m.leastRecentlyUsed(h)
	if class == chip.ClassNoSessionSlot {
		if m.chip.EndSessions(chip.EndIfSeveral) {
			return true
		}
		i := slices.IndexFunc(m.loaded.keys, func(other *Key) bool { return other != h && other.authorized() })
		if i < 0 {
			return false
		}
		victim = m.loaded.keys[i]
	}
	if victim == nil {
		return false
	}
	if err := m.evict(victim); err != nil {
		m.startOver(victim, err)
	}
	return true
}

// freeOrphans flushes the keys or sessions in a bare TPM that other processes have left.
// During a turn nobody else loads anything, so once a turn is enough.
func (m *Manager) freeOrphans(class chip.ErrClass) (freed bool) {
	if m.turn.freed[class] {
		return false
	}
	kind := chip.Keys
	if class == chip.ClassNoSessionSlot {
		kind = chip.Sessions
	}
	orphans, err := m.orphans(kind)
	if err != nil {
		return m.mayRetry(err)
	}
	if m.turn.freed == nil {
		m.turn.freed = map[chip.ErrClass]bool{}
	}
	m.turn.freed[class] = true
	if kind == chip.Keys {
		if err := m.saveSessions(nil); err != nil { // an orphan may be a copy of one of these keys
			return m.mayRetry(err)
		}
	}
	for _, handle := range orphans {
		freed = m.mayRetry(m.chip.Flush(kind, handle)) || freed
	}
	return freed
}

// mayRetry reports whether another attempt may succeed after err: something was freed, or
// the error will show again.
func (m *Manager) mayRetry(err error) bool { return m.chip.ClassOf(err) != chip.ClassRefused }

// orphans returns the handles of keys or sessions in the TPM that this process has not
// loaded.
func (m *Manager) orphans(kind chip.Kind) ([]uint32, error) {
	handles, err := m.chip.Loaded(kind)
	own, _ := m.chip.Sessions()
	saved := m.savedNumbers()
	return slices.DeleteFunc(handles, func(handle uint32) bool {
		switch kind {
		case chip.Sessions:
			return slices.Contains(own, handle)
		case chip.SavedSessions:
			return saved[handle] != nil
		}
		return slices.ContainsFunc(m.loaded.keys, func(h *Key) bool { return h.in.Handle() == handle })
	}), err
}

// freeSavedSessions frees saved sessions, because a TPM keeps a limited number of them, and
// none that is too old. It frees those of other programs first; their owners have to ask for
// the secret again.
func (m *Manager) freeSavedSessions() (freed bool) {
	if !m.dev.Bare() {
		return false
	}
	orphans, err := m.orphans(chip.SavedSessions)
	if err != nil {
		return m.mayRetry(err)
	}
	for _, number := range orphans {
		freed = m.mayRetry(m.chip.Flush(chip.SavedSessions, number)) || freed
	}
	if freed {
		return true
	}
	for number, h := range m.savedNumbers() {
		h.endSession()
		freed = m.mayRetry(m.chip.Flush(chip.SavedSessions, number)) || freed
	}
	return freed
}

// savedNumbers returns this process's saved sessions, by their numbers.
func (m *Manager) savedNumbers() map[uint32]*Key {
	own := map[uint32]*Key{}
	for h := range m.keys {
		if h.session == nil {
			continue
		}
		if state, number := h.session.State(); state == chip.SessionSaved {
			own[number] = h
		}
	}
	return own
}
