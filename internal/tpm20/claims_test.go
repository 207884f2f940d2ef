package tpm20_test

import (
	"errors"
	"testing"

	"github.com/google/go-tpm/tpm2"

	"maclef/internal/tpm20"
)

// claims is the account that a Conn keeps, and what it did wrong.
type claims struct {
	t       *testing.T
	held    map[byte]map[uint32]bool
	foreign bool
}

func newClaims(t *testing.T) *claims {
	return &claims{t: t, held: map[byte]map[uint32]bool{'k': {}, 's': {}}}
}

func (c *claims) Claim(kind byte, handle uint32) {
	if c.held[kind][handle] {
		c.t.Errorf("%c %#x claimed twice", kind, handle)
	}
	c.held[kind][handle] = true
}

func (c *claims) Foreign(byte, uint32) bool { return c.foreign }

func (c *claims) Release(kind byte, handle uint32) {
	if !c.held[kind][handle] {
		c.t.Errorf("%c %#x released, and not claimed", kind, handle)
	}
	delete(c.held[kind], handle)
}

func TestClaims(t *testing.T) {
	conn, tap := open(t)
	held := newClaims(t)
	conn.Claims = held
	want := func(step string, objects, sessions int) {
		t.Helper()
		if k, s := len(held.held['k']), len(held.held['s']); k != objects || s != sessions {
			t.Errorf("%s: %d objects and %d sessions claimed, want %d and %d", step, k, s, objects, sessions)
		}
		wantLoaded(t, tap, objects, sessions)
	}
	f := fixtureOn(t, conn, tap)
	want("loaded", 2, 0)
	f.mustSign()
	want("signed", 2, 1)
	saved, err := conn.SaveContext(f.key)
	if err != nil {
		t.Fatal(err)
	}
	second, err := conn.LoadContext(saved, f.key)
	if err != nil || second.Handle == f.key.Handle {
		t.Fatal(second, err)
	}
	want("second", 3, 1)
	if _, err := conn.LoadContext(saved, f.key); !errors.Is(err, tpm2.TPMRCObjectMemory) {
		t.Error(err)
	}
	want("no room", 3, 1)
	f.session.Close()
	want("closed", 3, 1)
	conn.EndSessions()
	want("no sessions", 3, 0)
	if err := conn.Flush(second.Handle); err != nil {
		t.Error(err)
	}
	want("flushed", 2, 0)
	if err := conn.Flush(second.Handle); err != nil {
		t.Error("flushed already: ", err)
	}
	if _, err := tpm20.Run(conn, tpm2.FlushContext{FlushHandle: f.key.Handle}); err != nil {
		t.Error(err)
	}
	want("flushed by Run", 1, 0)
	tpm20.New(tap).Flush(f.parent.Handle)
	if _, err := conn.Load(f.parent, nil, tpm2b(nil), tpm2.Marshal(tpm2.New2B(*f.key.Public))); !errors.Is(err, tpm2.TPMRCReferenceH0) {
		t.Error(err)
	}
	want("flushed by somebody", 0, 0)
	f = fixtureOn(t, conn, tap)
	f.mustSign()
	conn.Lost(f.key.Handle)
	conn.Forget()
	if len(held.held['k'])+len(held.held['s']) != 0 {
		t.Error("forgotten, and claimed:", held.held)
	}
}
