package transport

import (
	"fmt"
	"slices"
	"strings"
)

// An identified link knows a name for its TPM that is the same in every process
// of this machine.
type identified interface{ id() (string, error) }

// Kinds of what is loaded in a TPM, for claims.
const (
	ClaimKey     = 'k'
	ClaimSession = 's'
)

// Claim tells the other processes of this machine that a loaded key or an open
// session is this process's, until Release or the end of the process, however
// that comes. It never fails: where it cannot be told, nobody knows.
func (d *Device) Claim(kind byte, handle uint32) {
	if l := d.claims(); l != nil {
		l.claim(kind, handle)
	}
}

// Release takes a claim back.
func (d *Device) Release(kind byte, handle uint32) {
	if l := d.claims(); l != nil {
		l.release(kind, handle)
	}
}

// Foreign reports whether somebody else has claimed a key or session: another
// living process, or another Device of this one. It does where nobody can know. On
// the kernel's resource manager all keys that can be seen are this Device's.
func (d *Device) Foreign(kind byte, handle uint32) bool {
	if d.managed {
		return kind == ClaimSession
	}
	claims, err := d.Claims()
	return err != nil || slices.ContainsFunc(claims, func(c Claim) bool {
		return c.Kind == kind && c.Handle == handle && !c.Own
	})
}

// Claims returns what living processes have claimed, this one included. Nobody
// has claims on somebody else's transport. On a TPM that other machines can reach
// it is an error: what they have loaded is not known here; nor is it on the kernel's
// resource manager, where whoever uses it need not know.
func (d *Device) Claims() ([]Claim, error) {
	if d.managed {
		return nil, fmt.Errorf("%s: the kernel keeps its users apart, and tells nobody whose sessions are in the TPM", d.name)
	}
	link, ok := d.link.(identified)
	if !ok {
		return nil, nil
	}
	if s, ok := d.link.(*socketLink); ok && s.remote() {
		return nil, fmt.Errorf("%s: whose keys are in it is not known, because other machines may use it", d.name)
	}
	if _, err := link.id(); err != nil {
		return nil, fmt.Errorf("find out whose keys are in %s: %w", d.name, err)
	}
	l := d.claims()
	if l == nil {
		return nil, d.usable()
	}
	return l.living()
}

// remote reports whether the TPM is on another machine.
func (s *socketLink) remote() bool {
	id, err := s.id()
	return s.network == "tcp" && (err != nil || !strings.HasPrefix(id, "tlocalhost-"))
}

// Tells reports whether the processes that use the TPM tell each other here what they
// have loaded.
func (d *Device) Tells() bool { return d.claims() != nil }

// AskRoom asks the other processes that have something in the TPM to take out
// what they do not need at the moment, and returns how many it asked.
func (d *Device) AskRoom() int {
	l := d.claims()
	if l == nil {
		return 0
	}
	n, _ := l.askRoom()
	return n
}

// OnAsked sets what to do when another process asks for room. f runs in a
// goroutine of its own.
func (d *Device) OnAsked(f func()) {
	d.book.Lock()
	d.asked = f
	l := d.ledger
	d.book.Unlock()
	if l != nil {
		l.onAsked(f)
	}
}

// claims is the ledger for this run of the TPM, nil where there is none.
func (d *Device) claims() *ledger {
	d.book.Lock()
	defer d.book.Unlock()
	if d.ledger != nil || d.shut {
		return d.ledger
	}
	link, ok := d.link.(identified)
	if !ok {
		return nil
	}
	id, err := link.id()
	if err != nil {
		return nil
	}
	d.ledger = newLedger(id)
	if d.asked != nil {
		d.ledger.onAsked(d.asked)
	}
	return d.ledger
}

// forgetClaims ends all claims: the TPM was restarted, or is closed for good.
func (d *Device) forgetClaims(shut bool) {
	d.book.Lock()
	defer d.book.Unlock()
	d.shut = d.shut || shut
	if d.ledger != nil {
		d.ledger.close()
		d.ledger = nil
	}
}
