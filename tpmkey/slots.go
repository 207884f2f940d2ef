package tpmkey

import (
	"errors"
	"slices"
	"time"
)

// slots are the places for loaded keys in the TPM, of which there are few. The
// key that was not used for the longest time makes room for one that is wanted,
// and comes back from its saved context.
type slots struct {
	tpm    *TPM
	loaded []*held // least recently used first
	// limit is for how many keys there was room when it last got narrow; 0 if it
	// never did. It is believed for a while only: others come and go.
	limit    int
	believed time.Time
	// unsaved says that the TPM does not save contexts.
	unsaved bool
	// left is until when places that were made for others are left to them.
	left time.Time
}

// courtesy is for how long a process that has made room takes no place again: longer
// than those who asked wait before they look.
const courtesy = 2 * roomPause

// yield is for how long an operation of a key has to wait that takes a place.
func (s *slots) yield(h *held) time.Duration {
	if s.left.IsZero() {
		return 0
	}
	d := time.Until(s.left)
	if d <= 0 {
		s.left = time.Time{}
	}
	if h.slot.in != nil && (!h.needsSecret || s.tpm.chip.holds()) {
		return 0
	}
	return d
}

// limitBelief is how long a limit is believed.
const limitBelief = 30 * time.Second

// A slot is where a key is. The zero value is a key outside the TPM.
type slot struct {
	in      loadedKey // nil for a key that is outside
	context []byte    // to restore it from, once it was saved
	worked  bool      // it has done something since it was loaded
}

// bring sees that a key is loaded.
func (s *slots) bring(h *held, with *secrets) (loadedKey, error) {
	if h.slot.in != nil {
		s.touch(h)
		return h.slot.in, nil
	}
	if s.limit > 0 && time.Since(s.believed) > limitBelief {
		s.limit = 0
	}
	for s.limit > 0 && len(s.loaded) > 0 && len(s.loaded)+s.beside(h) >= s.limit {
		if err := s.evictOldest(); err != nil {
			return nil, err
		}
	}
	for {
		in, err := s.fetch(h, with)
		if err == nil {
			s.displace(in)
			h.slot.in, h.slot.worked = in, false
			s.loaded = append(s.loaded, h)
			return in, nil
		}
		if s.tpm.chip.condition(err) != noRoomForKey {
			return nil, err
		}
		if len(s.loaded) == 0 {
			return nil, &needed{room: true, why: err}
		}
		s.limit, s.believed = len(s.loaded)+s.beside(h), time.Now()
		if err := s.evictOldest(); err != nil {
			return nil, err
		}
	}
}

// displace takes note of a key whose handle was given to in: somebody flushed it.
func (s *slots) displace(in loadedKey) {
	for _, h := range slices.Clone(s.loaded) {
		if old, ok := h.slot.in.(*loadedKey20); ok && old.number() == in.number() && !old.persistent() {
			old.displaced()
			s.lost(h)
		}
	}
}

// beside is how many places a key takes besides its own while it comes: a TPM 2.0 has the
// parent loaded, too, when it loads one from a file.
func (s *slots) beside(h *held) int {
	if h.slot.context == nil && s.tpm.chip.generation() != tpm12Family {
		return 1
	}
	return 0
}

// fetch loads a key from its context, or else from its file.
func (s *slots) fetch(h *held, with *secrets) (loadedKey, error) {
	chip := s.tpm.chip
	if h.slot.context != nil {
		in, err := chip.restore(h.file, h.slot.context)
		if err == nil || chip.condition(err) != refused {
			return in, err
		}
		h.slot.context = nil
	}
	return h.load(with)
}

// touch makes a key the last one to go.
func (s *slots) touch(h *held) {
	if n := len(s.loaded); s.loaded[n-1] != h {
		s.remove(h)
		s.loaded = append(s.loaded, h)
	}
}

func (s *slots) remove(h *held) {
	if i := slices.Index(s.loaded, h); i >= 0 {
		s.loaded = slices.Delete(s.loaded, i, i+1)
	}
}

// evictOldest takes the least recently used key out; one with a session that
// cannot be had again without asking goes last.
func (s *slots) evictOldest() error {
	i := max(0, slices.IndexFunc(s.loaded, func(h *held) bool { return !h.slot.in.authorized() }))
	return s.evict(s.loaded[i])
}

// evict takes a key out. A TPM that does not save contexts loads it from its file
// again.
func (s *slots) evict(h *held) error {
	chip := s.tpm.chip
	if h.slot.context == nil && !s.unsaved {
		saved, err := h.slot.in.save()
		switch chip.condition(err) {
		case fine:
			h.slot.context = saved
		case refused:
			s.unsaved = true
		case keyGone:
			s.lost(h)
			return nil
		default:
			return err
		}
	}
	if err := h.slot.in.flush(); err != nil {
		return err
	}
	s.lost(h)
	return nil
}

// freeSession ends the sessions that serve more than one key; where there are none it
// takes out the least recently used other key that has a session of its own.
func (s *slots) freeSession(but *held) bool {
	if s.tpm.chip.endShared() {
		return true
	}
	i := slices.IndexFunc(s.loaded, func(h *held) bool { return h != but && h.slot.in.authorized() })
	return i >= 0 && s.evict(s.loaded[i]) == nil
}

// freePlace takes out the least recently used key, but last of all the one for which
// that is done.
func (s *slots) freePlace(last *held) bool {
	i := slices.IndexFunc(s.loaded, func(h *held) bool { return h != last && !h.slot.in.authorized() })
	if i < 0 {
		i = slices.IndexFunc(s.loaded, func(h *held) bool { return h != last })
	}
	if i < 0 && len(s.loaded) > 0 {
		i = 0
	}
	return i >= 0 && s.evict(s.loaded[i]) == nil
}

// free frees a key's place for good. Where the answer is lost it asks again.
func (s *slots) free(h *held) error {
	if h.slot.in == nil {
		return nil
	}
	err := h.slot.in.flush()
	if cond := s.tpm.chip.condition(err); cond == noReply || cond == notSent {
		if err = s.tpm.sync(); err == nil && h.slot.in != nil {
			err = h.slot.in.flush()
		}
	}
	s.lost(h)
	return err
}

// lost takes note that a key is not in the TPM any more.
func (s *slots) lost(h *held) {
	if h.slot.in != nil {
		h.slot.in.abandon()
		h.slot.in = nil
		s.remove(h)
	}
}

// forget takes note that nothing is in the TPM any more, and that no context can
// be restored.
func (s *slots) forget() {
	for h := range s.tpm.keys {
		s.lost(h)
		h.slot.context = nil
	}
	s.limit = 0
}

// withRoom runs f, and takes out one key after the other while there is no room for it.
func (s *slots) withRoom(f func() error) error {
	for {
		err := f()
		freed := false
		switch s.tpm.chip.condition(err) {
		case noRoomForKey:
			if len(s.loaded) > 0 {
				if lost := s.evictOldest(); lost != nil {
					return lost
				}
				freed = true
			}
		case noRoomForSession:
			freed = s.freeSession(nil)
		default:
			return err
		}
		if !freed {
			return &needed{room: true, why: err}
		}
	}
}

// makeRoom takes out what this process does not need at the moment, because
// another process asked for that: half of the keys that come back without a question,
// and the session that serves all of them.
func (t *TPM) makeRoom() {
	t.turn(func() error { // an error: whoever asked asks again
		var errs []error
		spare := 0
		for _, h := range t.slots.loaded {
			if !h.slot.in.authorized() {
				spare++
			}
		}
		for range (spare + 1) / 2 {
			errs = append(errs, t.slots.evictOldest())
		}
		t.chip.endSessions()
		t.slots.left = time.Now().Add(courtesy)
		return errors.Join(errs...)
	})
}
