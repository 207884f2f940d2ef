package keymgr

import (
	"crypto"
	"maclef/internal/chip"
	"slices"
	"time"
)

// A place is where a key is: in the TPM, or outside with what brings it back.
type place struct {
	in      chip.LoadedKey // nil for a key that is outside
	was     chip.LoadedKey // what it was when it was in
	context []byte         // to restore that from, once it was saved; a TPM takes it until it is restarted
	session chip.Session   // authorizes it without its secret; nil if there is none
	entry   string         // of the context on disk; empty where there is to be none
	// recalled says that it came from there, and was not used with success since: it may be
	// the public half alone.
	recalled bool
}

// sessionIs reports where the session is; one that there is not is nowhere.
func (p *place) sessionIs(want chip.SessionState) bool {
	if p.session == nil {
		return false
	}
	state, _ := p.session.State()
	return state == want
}

// A loadedSet is the keys in the TPM, which has few places for them. The key that was not
// used for the longest time makes room for one that is wanted.
type loadedSet struct {
	keys []*Key // least recently used first
	// limit is for how many keys there was room when it last got narrow; 0 if it
	// never did. It is believed for a while only: on a caller's transport others come and go.
	limit    int
	believed time.Time
	// unsaved says that the TPM does not save contexts: its keys stay in.
	unsaved bool
}

// limitBelief is how long a limit is believed.
const limitBelief = 30 * time.Second

// bringIn sees that a key is loaded, and its session with it.
func (m *Manager) bringIn(h *Key, with *secrets) (chip.LoadedKey, error) {
	s := &m.loaded
	if h.in != nil {
		if last := len(s.keys) - 1; s.keys[last] != h {
			s.keys = append(slices.Delete(s.keys, slices.Index(s.keys, h), slices.Index(s.keys, h)+1), h)
		}
		return h.in, m.resume(h)
	}
	if time.Since(s.believed) > limitBelief {
		s.limit = 0
	}
	for s.limit > 0 && len(s.keys) > 0 && len(s.keys)+m.beside(h) >= s.limit {
		if err := m.evict(m.oldest(nil)); err != nil {
			return nil, err
		}
	}
	in, err := m.fetch(h, with)
	if err != nil {
		if m.chip.ClassOf(err) == chip.ClassKeyRoom && len(s.keys) > 0 {
			s.limit, s.believed = len(s.keys)+m.beside(h), time.Now()
		}
		return nil, err
	}
	m.isIn(h, in)
	return in, m.resume(h)
}

// isIn notes that a key is in the TPM.
func (m *Manager) isIn(h *Key, in chip.LoadedKey) {
	h.in = in
	m.loaded.keys = append(m.loaded.keys, h)
	m.keys[h] = struct{}{}
}

// beside is how many places a key takes besides its own while it comes: a TPM 2.0 has the
// parent loaded, too, when it loads one from a file.
func (m *Manager) beside(h *Key) int {
	if h.context == nil && m.chip.Generation() != chip.TPM12 {
		return 1
	}
	return 0
}

// fetch loads a key from its context, or else from its file.
func (m *Manager) fetch(h *Key, with *secrets) (chip.LoadedKey, error) {
	if h.context != nil {
		in, err := m.chip.Restore(h.file, h.was, h.context)
		if class := m.chip.ClassOf(err); class != chip.ClassRefused && class != chip.ClassLost {
			return in, err
		}
		h.context = nil // of an earlier start of the TPM
	}
	h.entry = m.entryFor(h, with)
	if in, err := m.recall(h); in != nil || err != nil {
		return in, err
	}
	return m.loadFile(h, with)
}

// resume brings back the session of a key that is loaded. One that does not come back
// is lost; then the secret is asked for again.
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

// endSession forgets the key's session; where it is loaded, the wire layer frees it.
func (h *Key) endSession() {
	if h.session != nil {
		h.session.Close()
		h.session = nil
	}
}

// oldest is the least recently used key; one with a session that cannot be had again
// without asking comes after the others, and last of all the one for which place is made.
func (m *Manager) oldest(last *Key) *Key {
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

// evict takes a key out, and its session with it: that comes back with the key.
func (m *Manager) evict(h *Key) error {
	switch err := m.save(h); {
	case m.chip.ClassOf(err) == chip.ClassLost: // it is gone already
		m.isOut(h)
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
	m.isOut(h)
	return nil
}

// saveSessions saves those of the other loaded copies of a key, or of all keys for nil. A
// TPM 1.2 ends them when a copy of their key is flushed.
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

// saveSession takes a key's session out of a bare TPM; elsewhere it ends.
func (m *Manager) saveSession(h *Key) error {
	if !h.authorized() {
		return nil
	}
	if !m.dev.Bare() {
		h.endSession()
		return nil
	}
	if err := m.save(h); err != nil { // which brings the session back for good, too
		return err
	}
	err := h.session.Save()
	if m.chip.ClassOf(err) == chip.ClassSavedRoom && m.freeSaved() {
		err = h.session.Save()
	}
	switch m.chip.ClassOf(err) {
	case chip.ClassRefused, chip.ClassLost, chip.ClassSavedRoom: // then the secret is asked for again
		h.endSession()
		return nil
	}
	return err
}

// save saves what brings a key back. A TPM that does not save contexts loads it from its
// file again.
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

// isOut notes that a key is not in the TPM any more.
func (m *Manager) isOut(h *Key) {
	if h.in != nil {
		h.in, h.was = nil, h.in
	}
	if h.authorized() { // it ended with the key, or nobody knows it
		h.endSession()
	}
	if i := slices.Index(m.loaded.keys, h); i >= 0 {
		m.loaded.keys = slices.Delete(m.loaded.keys, i, i+1)
	}
}

// free frees a key's place, and its session's, for good. A saved session is brought back
// for that: by then its number may stand for another's.
func (m *Manager) free(h *Key) error {
	if h.sessionIs(chip.SessionSaved) {
		m.bringBack(h)
	}
	if h.in == nil {
		h.endSession()
		return nil
	}
	err := m.saveSessions(h)
	if err == nil {
		if h.entry != "" {
			m.save(h) // an error: then there is none on disk
		}
		err = m.chip.Flush(chip.Keys, h.in.Handle())
	}
	h.endSession()
	m.isOut(h)
	switch m.chip.ClassOf(err) {
	case chip.ClassNotSent, chip.ClassUnanswered:
		m.dirty = m.dev.Bare()
		return m.openTurn(&Work{Ctx: noLimit}) // which frees it
	case chip.ClassNotStarted: // then nothing is there
		return nil
	}
	return err
}

// bringBack brings a key and its session back without anybody's secret, unless the TPM
// does not have them any more.
func (m *Manager) bringBack(h *Key) {
	for range maxRepairs {
		var err error
		if h.in == nil && h.context != nil {
			var in chip.LoadedKey
			if in, err = m.chip.Restore(h.file, h.was, h.context); err == nil {
				m.isIn(h, in)
			}
		}
		if err == nil && h.in != nil {
			err = m.resume(h)
		}
		class := m.chip.ClassOf(err)
		if class != chip.ClassKeyRoom && class != chip.ClassSessionRoom || !m.makeRoom(class, h) {
			return
		}
	}
}

// takeOut takes all that this process has loaded out of a bare TPM.
func (m *Manager) takeOut() {
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
	m.clean() // an error: the next turn does it
}

// forgetLoaded notes that nothing of this process is loaded: the TPM was another's, or was
// restarted. What was saved may come back.
func (m *Manager) forgetLoaded() {
	m.chip.EndSessions(chip.Forget)
	for _, h := range slices.Clone(m.loaded.keys) {
		m.isOut(h)
	}
}

// startOver forgets what is loaded after an error that shows that it is not what it
// should be. A bare TPM is emptied before anything else is done with it.
func (m *Manager) startOver(h *Key, err error) {
	if m.dev.Bare() {
		m.forgetLoaded()
		m.dirty = true
		return
	}
	lost := m.chip.ClassOf(err) == chip.ClassLost
	if h != nil && h.in != nil {
		if !lost {
			m.chip.Flush(chip.Keys, h.in.Handle()) // an error: it is not there any more
		}
		m.isOut(h)
	}
	if !lost {
		m.chip.EndSessions(chip.EndAll)
	}
}

// makeRoom frees a place for what class lacks, and reports whether it did: first what
// others left in a bare TPM, then what this process can bring back. h is what the place
// is for.
func (m *Manager) makeRoom(class chip.ErrClass, h *Key) bool {
	if class == chip.ClassSavedRoom {
		return m.freeSaved()
	}
	if m.dev.Bare() && m.freeLeft(class) {
		return true
	}
	victim := m.oldest(h)
	if class == chip.ClassSessionRoom {
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

// freeLeft frees the keys or sessions in a bare TPM that this process has not loaded in
// its turn: they were left behind. Nobody leaves others meanwhile, so once is enough.
func (m *Manager) freeLeft(class chip.ErrClass) (freed bool) {
	if m.turn.freed[class] {
		return false
	}
	kind := chip.Keys
	if class == chip.ClassSessionRoom {
		kind = chip.Sessions
	}
	orphans, err := m.orphans(kind)
	if err != nil {
		return m.worthwhile(err)
	}
	if m.turn.freed == nil {
		m.turn.freed = map[chip.ErrClass]bool{}
	}
	m.turn.freed[class] = true
	if kind == chip.Keys {
		if err := m.saveSessions(nil); err != nil { // what was left may be the same keys
			return m.worthwhile(err)
		}
	}
	for _, handle := range orphans {
		freed = m.worthwhile(m.chip.Flush(kind, handle)) || freed
	}
	return freed
}

// worthwhile reports whether something was done about want of room, or went wrong in a way
// that the next attempt shows.
func (m *Manager) worthwhile(err error) bool { return m.chip.ClassOf(err) != chip.ClassRefused }

// orphans are the keys, or the sessions, in the TPM that are not this process's.
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

// freeSaved frees saved sessions: a TPM knows only so many, and none that is too old.
// Those of others go first; who misses one asks for a secret again.
func (m *Manager) freeSaved() (freed bool) {
	if !m.dev.Bare() {
		return false
	}
	orphans, err := m.orphans(chip.SavedSessions)
	if err != nil {
		return m.worthwhile(err)
	}
	for _, number := range orphans {
		freed = m.worthwhile(m.chip.Flush(chip.SavedSessions, number)) || freed
	}
	if freed {
		return true
	}
	for number, h := range m.savedNumbers() {
		h.endSession()
		freed = m.worthwhile(m.chip.Flush(chip.SavedSessions, number)) || freed
	}
	return freed
}

// savedNumbers are the numbers of this process's own saved sessions.
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
