package keymgr

import (
	"crypto"
	"slices"
	"time"

	"maclef/internal/chip"
)

// A slotState says whether a key is in one of the TPM's slots, and what loads it again.
type slotState struct {
	in      chip.LoadedKey // nil for a key that is not loaded
	was     chip.LoadedKey // the last value of in
	context []byte         // the saved context of was; valid until the TPM is restarted
	session chip.Session   // authorizes the key without its secret; may be nil
	entry   string         // the name of the context on disk; empty if there must be none
	// recalled says that the key was loaded from disk and not used successfully since. It
	// may be the public half only.
	recalled bool
}

// sessionIs reports whether the session is in a state. No session is in none.
func (p *slotState) sessionIs(want chip.SessionState) bool {
	if p.session == nil {
		return false
	}
	state, _ := p.session.State()
	return state == want
}

// A slotCache has the keys that this process has loaded. A TPM has few slots: the least
// recently used key is evicted when another one needs its slot.
type slotCache struct {
	keys []*Key // least recently used first
	// limit is how many keys there was room for when a slot was last missing; 0 if none
	// ever was. It expires: on a caller's transport other programs come and go.
	limit     int
	limitRead time.Time
	// unsaved says that the TPM cannot save contexts: keys stay loaded.
	unsaved bool
}

// limitLife is how long slotCache.limit is used.
const limitLife = 30 * time.Second

// ensureLoaded loads a key and its session unless they are loaded.
func (m *Manager) ensureLoaded(h *Key, with *secrets) (chip.LoadedKey, error) {
	s := &m.loaded
	if h.in != nil {
		if last := len(s.keys) - 1; s.keys[last] != h {
			s.keys = append(slices.Delete(s.keys, slices.Index(s.keys, h), slices.Index(s.keys, h)+1), h)
		}
		return h.in, m.resume(h)
	}
	if time.Since(s.limitRead) > limitLife {
		s.limit = 0
	}
	for s.limit > 0 && len(s.keys) > 0 && len(s.keys)+m.extraSlots(h) >= s.limit {
		if err := m.evict(m.leastRecentlyUsed(nil)); err != nil {
			return nil, err
		}
	}
	in, err := m.fetch(h, with)
	if err != nil {
		if m.chip.ClassOf(err) == chip.ClassNoKeySlot && len(s.keys) > 0 {
			s.limit, s.limitRead = len(s.keys)+m.extraSlots(h), time.Now()
		}
		return nil, err
	}
	m.noteLoaded(h, in)
	return in, m.resume(h)
}

// noteLoaded records that a key is loaded.
func (m *Manager) noteLoaded(h *Key, in chip.LoadedKey) {
	h.in = in
	m.loaded.keys = append(m.loaded.keys, h)
	m.keys[h] = struct{}{}
}

// extraSlots is how many slots loading a key takes besides its own: a TPM 2.0 needs one for
// the parent when a key is loaded from its file.
func (m *Manager) extraSlots(h *Key) int {
	if h.context == nil && m.chip.Generation() != chip.TPM12 {
		return 1
	}
	return 0
}

// fetch loads a key from its saved context, else from its context on disk, else from its
// file.
func (m *Manager) fetch(h *Key, with *secrets) (chip.LoadedKey, error) {
	if h.context != nil {
		in, err := m.chip.Restore(h.file, h.was, h.context)
		if class := m.chip.ClassOf(err); class != chip.ClassRefused && class != chip.ClassLost {
			return in, err
		}
		h.context = nil // the TPM was restarted since
	}
	h.entry = m.entryFor(h, with)
	if in, err := m.recall(h); in != nil || err != nil {
		return in, err
	}
	return m.loadFile(h, with)
}

// resume loads the saved session of a loaded key. If the TPM refuses it, the session is
// lost and the secret must be asked for again.
func (m *Manager) resume(h *Key) error {
	if !h.sessionIs(chip.SessionSaved) {
		return nil
	}
	err := h.in.Resume(h.session)
	switch m.chip.ClassOf(err) {
	case chip.ClassRefused, chip.ClassLost, chip.ClassAuth:
		h.endSession()
		return nil
	}
	return err
}

// endSession forgets the key's session. If it is loaded, the next command that starts a
// session frees it.
func (h *Key) endSession() {
	if h.session != nil {
		h.session.Close()
		h.session = nil
	}
}

// leastRecentlyUsed returns the key to evict: one without a session if there is one, since
// a lost session means asking for the secret again; the key that needs the slot (last)
// comes last.
func (m *Manager) leastRecentlyUsed(last *Key) *Key {
	for _, wanted := range []func(*Key) bool{
		func(h *Key) bool { return h != last && !h.authorized() },
		func(h *Key) bool { return h != last },
		func(*Key) bool { return true },
	} {
		if i := slices.IndexFunc(m.loaded.keys, wanted); i >= 0 {
			return m.loaded.keys[i]
		}
	}
	return nil
}

// evict saves a key and its session, and takes both out of the TPM.
func (m *Manager) evict(h *Key) error {
	switch err := m.save(h); {
	case m.chip.ClassOf(err) == chip.ClassLost: // it was flushed already
		m.noteUnloaded(h)
		return nil
	case err != nil:
		return err
	}
	if err := m.saveSession(h); err != nil {
		return err
	}
	if err := m.saveSessions(h); err != nil {
		return err
	}
	if err := m.chip.Flush(chip.Keys, h.in.Handle()); err != nil {
		return err
	}
	m.noteUnloaded(h)
	return nil
}

// saveSessions saves the sessions of the other loaded copies of a key, or of all keys for
// nil. A TPM 1.2 ends them when it flushes a copy of their key.
func (m *Manager) saveSessions(of *Key) error {
	for _, h := range m.loaded.keys {
		if of != nil && (h == of || !sameKey(h.public, of.public)) {
			continue
		}
		if err := m.saveSession(h); err != nil {
			return err
		}
	}
	return nil
}

func sameKey(a, b crypto.PublicKey) bool {
	known, ok := a.(interface{ Equal(crypto.PublicKey) bool })
	return ok && known.Equal(b)
}

// saveSession saves a key's session in a bare TPM; elsewhere it ends the session.
func (m *Manager) saveSession(h *Key) error {
	if !h.authorized() {
		return nil
	}
	if !m.dev.Bare() {
		h.endSession()
		return nil
	}
	if err := m.save(h); err != nil { // the session is of no use without the key
		return err
	}
	err := h.session.Save()
	if m.chip.ClassOf(err) == chip.ClassTooManySaved && m.freeSavedSessions() {
		err = h.session.Save()
	}
	switch m.chip.ClassOf(err) {
	case chip.ClassRefused, chip.ClassLost, chip.ClassTooManySaved: // the secret is asked for again
		h.endSession()
		return nil
	}
	return err
}

// save saves a key's context, in memory and on disk. A TPM that cannot save contexts loads
// the key from its file again.
func (m *Manager) save(h *Key) error {
	if h.context != nil || m.loaded.unsaved {
		return nil
	}
	saved, err := h.in.Save()
	switch class := m.chip.ClassOf(err); {
	case class == chip.ClassNone:
		h.context = saved.Data
		if !saved.OfSecret {
			m.cache.Write(h.entry, saved.Data)
		}
	case class == chip.ClassRefused && m.chip.Generation() == chip.TPM12:
		m.loaded.unsaved = true
	default:
		return err
	}
	return nil
}

// noteUnloaded records that a key is not loaded any more.
func (m *Manager) noteUnloaded(h *Key) {
	if h.in != nil {
		h.in, h.was = nil, h.in
	}
	if h.authorized() { // it ended with the key, or its handle is not known
		h.endSession()
	}
	if i := slices.Index(m.loaded.keys, h); i >= 0 {
		m.loaded.keys = slices.Delete(m.loaded.keys, i, i+1)
	}
}

// free flushes a key and its session for good. A saved session is loaded first and then
// flushed: its number may be another session's by now.
func (m *Manager) free(h *Key) error {
	if h.sessionIs(chip.SessionSaved) {
		m.reload(h)
	}
	if h.in == nil {
		h.endSession()
		return nil
	}
	err := m.saveSessions(h)
	if err == nil {
		if h.entry != "" {
			m.save(h) // on error there is none on disk
		}
		err = m.chip.Flush(chip.Keys, h.in.Handle())
	}
	h.endSession()
	m.noteUnloaded(h)
	switch m.chip.ClassOf(err) {
	case chip.ClassNotSent, chip.ClassUnanswered:
		m.dirty = m.dev.Bare()
		return m.openTurn(&Work{Ctx: noLimit}) // which flushes everything
	case chip.ClassNotStarted: // nothing is loaded then
		return nil
	}
	return err
}

// reload loads a key and its session from what was saved, without a secret. It gives up if
// the TPM refuses them.
func (m *Manager) reload(h *Key) {
	for range maxRepairs {
		var err error
		if h.in == nil && h.context != nil {
			var in chip.LoadedKey
			if in, err = m.chip.Restore(h.file, h.was, h.context); err == nil {
				m.noteLoaded(h, in)
			}
		}
		if err == nil && h.in != nil {
			err = m.resume(h)
		}
		class := m.chip.ClassOf(err)
		if class != chip.ClassNoKeySlot && class != chip.ClassNoSessionSlot || !m.freeSlot(class, h) {
			return
		}
	}
}

// unloadAll takes everything that this process has loaded out of a bare TPM.
func (m *Manager) unloadAll() {
	for _, h := range slices.Clone(m.loaded.keys) {
		err := m.save(h)
		if err == nil && h.context == nil && m.loaded.unsaved {
			h.endSession()
			continue
		}
		if err == nil {
			err = m.evict(h)
		}
		if err != nil {
			m.startOver(h, err)
			break
		}
	}
	m.chip.EndSessions(chip.EndAll)
	m.dirty = m.dirty || m.holdsSessions()
	m.clean() // on error the next turn does it
}

// noteAllUnloaded records that nothing of this process is loaded: another program had the
// TPM, or it was restarted. What was saved stays saved.
func (m *Manager) noteAllUnloaded() {
	m.chip.EndSessions(chip.Forget)
	for _, h := range slices.Clone(m.loaded.keys) {
		m.noteUnloaded(h)
	}
}

// startOver unloads after an error which shows that something else is loaded than was
// thought. Everything in a bare TPM is flushed before it is used again.
func (m *Manager) startOver(h *Key, err error) {
	if m.dev.Bare() {
		m.noteAllUnloaded()
		m.dirty = true
		return
	}
	lost := m.chip.ClassOf(err) == chip.ClassLost
	if h != nil && h.in != nil {
		if !lost {
			m.chip.Flush(chip.Keys, h.in.Handle()) // on error it is not there
		}
		m.noteUnloaded(h)
	}
	if !lost {
		m.chip.EndSessions(chip.EndAll)
	}
}
