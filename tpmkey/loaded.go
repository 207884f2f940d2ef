package tpmkey

import (
	"crypto"
	"slices"
	"time"
)

// A place is where a key is: in the TPM, or outside with what brings it back.
type place struct {
	in      loadedKey  // nil for a key that is outside
	was     loadedKey  // what it was when it was in
	context []byte     // to restore that from, once it was saved; a TPM takes it until it is restarted
	session keySession // authorizes it without its secret; nil if there is none
	entry   string     // of the context on disk; empty where there is to be none
	// recalled says that it came from there, and was not used with success since: it may be
	// the public half alone.
	recalled bool
}

// A loadedSet is the keys in the TPM, which has few places for them. The key that was not
// used for the longest time makes room for one that is wanted.
type loadedSet struct {
	keys []*keyState // least recently used first
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
func (t *TPM) bringIn(h *keyState, with *secrets) (loadedKey, error) {
	s := &t.loaded
	if h.in != nil {
		if last := len(s.keys) - 1; s.keys[last] != h {
			s.keys = append(slices.Delete(s.keys, slices.Index(s.keys, h), slices.Index(s.keys, h)+1), h)
		}
		return h.in, t.resume(h)
	}
	if time.Since(s.believed) > limitBelief {
		s.limit = 0
	}
	for s.limit > 0 && len(s.keys) > 0 && len(s.keys)+t.beside(h) >= s.limit {
		if err := t.evict(t.oldest(nil)); err != nil {
			return nil, err
		}
	}
	in, err := t.fetch(h, with)
	if err != nil {
		if t.chip.classOf(err) == classKeyRoom && len(s.keys) > 0 {
			s.limit, s.believed = len(s.keys)+t.beside(h), time.Now()
		}
		return nil, err
	}
	t.isIn(h, in)
	return in, t.resume(h)
}

// isIn notes that a key is in the TPM.
func (t *TPM) isIn(h *keyState, in loadedKey) {
	h.in = in
	t.loaded.keys = append(t.loaded.keys, h)
	t.keys[h] = struct{}{}
}

// beside is how many places a key takes besides its own while it comes: a TPM 2.0 has the
// parent loaded, too, when it loads one from a file.
func (t *TPM) beside(h *keyState) int {
	if h.context == nil && t.chip.generation() != tpm12Family {
		return 1
	}
	return 0
}

// fetch loads a key from its context, or else from its file.
func (t *TPM) fetch(h *keyState, with *secrets) (loadedKey, error) {
	if h.context != nil {
		in, err := t.chip.restore(h.was, h.context)
		if class := t.chip.classOf(err); class != classRefused && class != classLost {
			return in, err
		}
		h.context = nil // of an earlier start of the TPM
	}
	h.entry = t.onDisk(h, with)
	if in, err := t.recall(h); in != nil || err != nil {
		return in, err
	}
	in, err := t.loadFile(h, with)
	if err == nil && in.ofSecret() {
		h.entry = ""
	}
	return in, err
}

// resume brings back the session of a key that is loaded. One that does not come back
// is lost; then the secret is asked for again.
func (t *TPM) resume(h *keyState) error {
	if h.session == nil || !h.session.Saved() {
		return nil
	}
	err := h.in.resume(h.session)
	switch t.chip.classOf(err) {
	case classRefused, classLost, classAuth:
		h.endSession()
		return nil
	}
	return err
}

// endSession forgets the key's session; where it is loaded, the wire layer frees it.
func (h *keyState) endSession() {
	if h.session != nil {
		h.session.Close()
		h.session = nil
	}
}

// oldest is the least recently used key; one with a session that cannot be had again
// without asking comes after the others, and last of all the one for which place is made.
func (t *TPM) oldest(last *keyState) *keyState {
	for _, wanted := range []func(*keyState) bool{
		func(h *keyState) bool { return h != last && !h.authorized() },
		func(h *keyState) bool { return h != last },
		func(*keyState) bool { return true },
	} {
		if i := slices.IndexFunc(t.loaded.keys, wanted); i >= 0 {
			return t.loaded.keys[i]
		}
	}
	return nil
}

// evict takes a key out, and its session with it: that comes back with the key.
func (t *TPM) evict(h *keyState) error {
	switch err := t.save(h); {
	case t.chip.classOf(err) == classLost: // it is gone already
		t.isOut(h)
		return nil
	case err != nil:
		return err
	}
	if err := t.saveSession(h); err != nil {
		return err
	}
	if err := t.saveSessions(h); err != nil {
		return err
	}
	if err := h.in.flush(); err != nil {
		return err
	}
	t.isOut(h)
	return nil
}

// saveSessions saves those of the other loaded copies of a key, or of all keys for nil. A
// TPM 1.2 ends them when a copy of their key is flushed.
func (t *TPM) saveSessions(of *keyState) error {
	for _, h := range t.loaded.keys {
		if of != nil && (h == of || !sameKey(h.public, of.public)) {
			continue
		}
		if err := t.saveSession(h); err != nil {
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
func (t *TPM) saveSession(h *keyState) error {
	if !h.authorized() {
		return nil
	}
	if !t.dev.Bare() {
		h.endSession()
		return nil
	}
	if err := t.save(h); err != nil { // which brings the session back for good, too
		return err
	}
	err := h.session.Save()
	if t.chip.classOf(err) == classSavedRoom && t.freeSaved() {
		err = h.session.Save()
	}
	switch t.chip.classOf(err) {
	case classRefused, classLost, classSavedRoom: // then the secret is asked for again
		h.endSession()
		return nil
	}
	return err
}

// save saves what brings a key back. A TPM that does not save contexts loads it from its
// file again.
func (t *TPM) save(h *keyState) error {
	if h.context != nil || t.loaded.unsaved {
		return nil
	}
	saved, err := h.in.save()
	switch class := t.chip.classOf(err); {
	case class == classNone:
		h.context = saved
		t.contexts.cache.Write(h.entry, saved)
	case class == classRefused && t.chip.generation() == tpm12Family:
		t.loaded.unsaved = true
	default:
		return err
	}
	return nil
}

// isOut notes that a key is not in the TPM any more.
func (t *TPM) isOut(h *keyState) {
	if h.in != nil {
		h.in, h.was = nil, h.in
	}
	if h.authorized() { // it ended with the key, or nobody knows it
		h.endSession()
	}
	if i := slices.Index(t.loaded.keys, h); i >= 0 {
		t.loaded.keys = slices.Delete(t.loaded.keys, i, i+1)
	}
}

// free frees a key's place, and its session's, for good. A saved session is brought back
// for that: by then its number may stand for another's.
func (t *TPM) free(h *keyState) error {
	if h.session != nil && h.session.Saved() {
		t.bringBack(h)
	}
	if h.in == nil {
		h.endSession()
		return nil
	}
	err := t.saveSessions(h)
	if err == nil {
		if h.entry != "" {
			t.save(h) // an error: then there is none on disk
		}
		err = h.in.flush()
	}
	h.endSession()
	t.isOut(h)
	switch t.chip.classOf(err) {
	case classNotSent, classUnanswered:
		t.dirty = t.dev.Bare()
		return t.openTurn(&work{ctx: noLimit}) // which frees it
	case classNotStarted: // then nothing is there
		return nil
	}
	return err
}

// bringBack brings a key and its session back without anybody's secret, unless the TPM
// does not have them any more.
func (t *TPM) bringBack(h *keyState) {
	for range maxRepairs {
		var err error
		if h.in == nil && h.context != nil {
			var in loadedKey
			if in, err = t.chip.restore(h.was, h.context); err == nil {
				t.isIn(h, in)
			}
		}
		if err == nil && h.in != nil {
			err = t.resume(h)
		}
		class := t.chip.classOf(err)
		if class != classKeyRoom && class != classSessionRoom || !t.makeRoom(class, h) {
			return
		}
	}
}

// takeOut takes all that this process has loaded out of a bare TPM.
func (t *TPM) takeOut() {
	for _, h := range slices.Clone(t.loaded.keys) {
		err := t.save(h)
		if err == nil && h.context == nil && t.loaded.unsaved {
			h.endSession()
			continue
		}
		if err == nil {
			err = t.evict(h)
		}
		if err != nil {
			t.startOver(h, err)
			break
		}
	}
	t.chip.endSessions()
	t.dirty = t.dirty || t.chip.holds()
	t.clean() // an error: the next turn does it
}

// forgetLoaded notes that nothing of this process is loaded: the TPM was another's, or was
// restarted. What was saved may come back.
func (t *TPM) forgetLoaded() {
	t.chip.forget()
	for _, h := range slices.Clone(t.loaded.keys) {
		t.isOut(h)
	}
}

// startOver forgets what is loaded after an error that shows that it is not what it
// should be. A bare TPM is emptied before anything else is done with it.
func (t *TPM) startOver(h *keyState, err error) {
	if t.dev.Bare() {
		t.forgetLoaded()
		t.dirty = true
		return
	}
	lost := t.chip.classOf(err) == classLost
	if h != nil && h.in != nil {
		if !lost {
			h.in.flush() // an error: it is not there any more
		}
		t.isOut(h)
	}
	if !lost {
		t.chip.endSessions()
	}
}

// makeRoom frees a place for what class lacks, and reports whether it did: first what
// others left in a bare TPM, then what this process can bring back. h is what the place
// is for.
func (t *TPM) makeRoom(class errClass, h *keyState) bool {
	if class == classSavedRoom {
		return t.freeSaved()
	}
	if t.dev.Bare() && t.freeLeft(class) {
		return true
	}
	victim := t.oldest(h)
	if class == classSessionRoom {
		if t.chip.endShared() {
			return true
		}
		i := slices.IndexFunc(t.loaded.keys, func(other *keyState) bool { return other != h && other.authorized() })
		if i < 0 {
			return false
		}
		victim = t.loaded.keys[i]
	}
	if victim == nil {
		return false
	}
	if err := t.evict(victim); err != nil {
		t.startOver(victim, err)
	}
	return true
}

// freeLeft frees the keys or sessions in a bare TPM that this process has not loaded in
// its turn: they were left behind. Nobody leaves others meanwhile, so once is enough.
func (t *TPM) freeLeft(class errClass) (freed bool) {
	if t.turn.freed[class] {
		return false
	}
	keys, sessions, err := t.leftBehind()
	if err != nil {
		return t.worthwhile(err)
	}
	if t.turn.freed == nil {
		t.turn.freed = map[errClass]bool{}
	}
	t.turn.freed[class] = true
	free, flush := keys, t.chip.flushKey
	if class == classSessionRoom {
		free, flush = sessions, t.chip.flushSession
	} else if err := t.saveSessions(nil); err != nil { // what was left may be the same keys
		return t.worthwhile(err)
	}
	for _, handle := range free {
		freed = t.worthwhile(flush(handle)) || freed
	}
	return freed
}

// worthwhile reports whether something was done about want of room, or went wrong in a way
// that the next attempt shows.
func (t *TPM) worthwhile(err error) bool { return t.chip.classOf(err) != classRefused }

// leftBehind are the keys and sessions in the TPM that are not this process's.
func (t *TPM) leftBehind() (keys, sessions []uint32, err error) {
	keys, sessions, err = t.chip.occupants()
	keys = slices.DeleteFunc(keys, func(handle uint32) bool {
		return slices.ContainsFunc(t.loaded.keys, func(h *keyState) bool { return h.in.number() == handle })
	})
	return keys, slices.DeleteFunc(sessions, t.chip.owns), err
}

// freeSaved frees saved sessions: a TPM knows only so many, and none that is too old.
// Those of others go first; who misses one asks for a secret again.
func (t *TPM) freeSaved() (freed bool) {
	if !t.dev.Bare() {
		return false
	}
	saved, err := t.chip.saved()
	if err != nil {
		return t.worthwhile(err)
	}
	own := t.savedNumbers()
	for _, number := range saved {
		if own[number] == nil {
			freed = t.worthwhile(t.chip.flushSaved(number)) || freed
		}
	}
	if freed {
		return true
	}
	for number, h := range own {
		h.endSession()
		freed = t.worthwhile(t.chip.flushSaved(number)) || freed
	}
	return freed
}

// savedNumbers are the numbers of this process's own saved sessions.
func (t *TPM) savedNumbers() map[uint32]*keyState {
	own := map[uint32]*keyState{}
	for h := range t.keys {
		if h.session != nil && h.session.Saved() {
			own[h.session.Context()] = h
		}
	}
	return own
}
