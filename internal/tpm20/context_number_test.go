package tpm20_test

import "testing"

// The list of saved sessions has the number of each, whatever its kind.
func TestContextIsTheNumberInTheList(t *testing.T) {
	t.Parallel()
	s := newSaver(t)
	for _, kind := range savedKinds {
		session := mustStart(kind.start(s))
		kind.prepare(s, session)
		s.save(session)
		if listed, err := s.conn.Handles(0x03000000); err != nil || len(listed) != 1 || uint32(listed[0]) != session.Context() {
			t.Errorf("%s: %#x are listed, not %#x: %v", kind.name, listed, session.Context(), err)
		}
		s.restore(session)
		s.conn.EndSessions()
	}
}
