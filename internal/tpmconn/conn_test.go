package tpmconn

import (
	"errors"
	"slices"
	"testing"
	"time"
)

// A session is one of a test's; its handle is what it is called by.
type session struct {
	handle uint32
	ended  int
}

func newConn() *Conn[*session] {
	c := New(nil, func(s *session) uint32 { return s.handle }, func(s *session) { s.ended++ })
	return &c
}

// opened are sessions that are open in a Conn, with handles from 1 on.
func opened(c *Conn[*session], n int) (all []*session) {
	for h := range n {
		s := &session{handle: uint32(h + 1)}
		c.SessionOpened(s)
		all = append(all, s)
	}
	return all
}

func wantOwn(t *testing.T, step string, c *Conn[*session], more bool, handles ...uint32) {
	t.Helper()
	open, stale := c.OwnSessions()
	slices.Sort(open)
	if !slices.Equal(open, handles) || stale != more || c.Holds() != (len(handles) > 0 || more) {
		t.Errorf("%s: owns %d, more %v, holds %v; want %d, %v", step, open, stale, c.Holds(), handles, more)
	}
	for s := range c.Open() {
		if found, ok := c.SessionOf(s.handle); !ok || found != s || !c.Owns(s.handle) {
			t.Errorf("%s: session %d is not found", step, s.handle)
		}
	}
}

// A session is gone, stale or saved, and ends once.
func TestSessions(t *testing.T) {
	c := newConn()
	wantOwn(t, "new", c, false)
	s := opened(c, 4)
	wantOwn(t, "opened", c, false, 1, 2, 3, 4)
	c.SessionEnded(s[0], Gone)
	c.SessionEnded(s[0], Stale)
	wantOwn(t, "gone", c, false, 2, 3, 4)
	c.SessionEnded(s[1], Stale)
	c.SessionEnded(s[1], Stale)
	wantOwn(t, "stale", c, true, 3, 4)
	c.SessionSaved(s[2])
	wantOwn(t, "saved", c, true, 4)
	if c.Owns(1) || c.Owns(2) || c.Owns(3) {
		t.Error("it owns what has ended, or is saved")
	}
	c.Forget()
	wantOwn(t, "forgotten", c, false)
	c.SessionOpened(s[2])
	wantOwn(t, "restored", c, false, 3)
	for i, want := range []int{1, 1, 0, 1} {
		if s[i].ended != want {
			t.Errorf("session %d ended %d times, want %d", i+1, s[i].ended, want)
		}
	}
}

// What cannot be freed is tried again next time.
func TestFlushStale(t *testing.T) {
	c := newConn()
	for _, s := range opened(c, 3) {
		c.SessionEnded(s, Stale)
	}
	var asked []uint32
	answer := func(done ...uint32) {
		asked = nil
		c.FlushStale(func(handle uint32) bool {
			asked = append(asked, handle)
			return slices.Contains(done, handle)
		})
		slices.Sort(asked)
	}
	if answer(); len(asked) != 1 {
		t.Errorf("asked for %d, without an answer", asked)
	}
	if answer(1, 2, 3); !slices.Equal(asked, []uint32{1, 2, 3}) {
		t.Errorf("asked for %d", asked)
	}
	if answer(1, 2, 3); len(asked) != 0 {
		t.Errorf("asked again for %d", asked)
	}
	wantOwn(t, "flushed", c, false)
}

var (
	errBusy     = errors.New("busy")
	errUntested = errors.New("not tested")
	errRefused  = errors.New("refused")
)

func busyError(err error) Busy {
	return map[error]Busy{errBusy: Again, errUntested: NeedsTest}[err]
}

// answers are those of a TPM, one after the other, and then again and again with the last.
type answers struct {
	errs  []error
	sent  int
	tests int
}

func (a *answers) send() ([]byte, error) {
	err := a.errs[min(a.sent, len(a.errs)-1)]
	a.sent++
	return []byte{byte(a.sent)}, err
}

func (a *answers) test() error {
	a.tests++
	return nil
}

func TestRetry(t *testing.T) {
	for name, row := range map[string]struct {
		errs        []error
		want        error
		sent, tests int
	}{
		"at once":          {[]error{nil}, nil, 1, 0},
		"refused":          {[]error{errRefused}, errRefused, 1, 0},
		"busy":             {[]error{errBusy, errBusy, nil}, nil, 3, 0},
		"busy, refused":    {[]error{errBusy, errRefused}, errRefused, 2, 0},
		"not tested":       {[]error{errUntested, errUntested, nil}, nil, 3, 1},
		"busy, not tested": {[]error{errBusy, errUntested, nil}, nil, 3, 1},
	} {
		a := &answers{errs: row.errs}
		reply, resent, err := newConn().Retry(a.send, busyError, a.test)
		if err != row.want || a.sent != row.sent || a.tests != row.tests || resent != (a.sent > 1) || len(reply) != 1 || int(reply[0]) != a.sent {
			t.Errorf("%s: %x, %v, %v after %d commands and %d tests", name, reply, resent, err, a.sent, a.tests)
		}
	}
	a := &answers{errs: []error{errUntested, nil}}
	if _, _, err := newConn().Retry(a.send, busyError, nil); err != nil || a.sent != 2 {
		t.Errorf("without a self test: %v after %d commands", err, a.sent)
	}
	a = &answers{errs: []error{errUntested, nil}}
	if _, _, err := newConn().Retry(a.send, busyError, func() error { return errRefused }); err != errRefused || a.sent != 1 {
		t.Errorf("the self test failed: %v after %d commands", err, a.sent)
	}
}

func TestPatienceEnds(t *testing.T) {
	for _, err := range []error{errBusy, errUntested} {
		c, a := newConn(), &answers{errs: []error{err}}
		c.Patience = 100 * time.Millisecond
		start := time.Now()
		if _, resent, got := c.Retry(a.send, busyError, a.test); got != err || !resent || a.sent < 2 || time.Since(start) < c.Patience {
			t.Errorf("%v after %v and %d commands", got, time.Since(start), a.sent)
		}
		a.sent, c.Patience = 0, 0
		if _, resent, got := c.Retry(a.send, busyError, a.test); got != err || resent || a.sent != 1 {
			t.Errorf("%v after %d commands", got, a.sent)
		}
	}
}
