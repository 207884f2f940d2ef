package tpmkey

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"maclef/internal/transport"
)

// An Occupant is a key or a session that is in the TPM now.
type Occupant struct {
	Handle  uint32 `json:"handle"`
	Session bool   `json:"session"` // an authorization session, else a key
	// PID is the living process that loaded it, 0 where none says so: it was killed,
	// or is a program that does not tell.
	PID     int    `json:"pid,omitempty"`
	Program string `json:"program,omitempty"`
}

// Loaded returns what is loaded in the TPM now, and whose it is. Programs of this
// project tell each other what they have loaded, on one machine, and in one network
// namespace.
func (t *TPM) Loaded() (all []Occupant, err error) {
	err = t.turn(func() (err error) {
		all, err = t.loadedNow()
		return err
	})
	return all, doingError("list what is loaded", err)
}

func (t *TPM) loadedNow() ([]Occupant, error) {
	keys, sessions, err := t.chip.occupants()
	if err != nil {
		return nil, err
	}
	var claims []transport.Claim
	if t.dev.Managed() { // its own keys are all that can be seen; others' sessions are not its business
		sessions = slices.DeleteFunc(sessions, func(h uint32) bool { return !t.chip.owns(transport.ClaimSession, h) })
	} else if claims, err = t.dev.Claims(); err != nil {
		return nil, err
	}
	all := make([]Occupant, 0, len(keys)+len(sessions))
	add := func(kind byte, handle uint32) {
		o := Occupant{Handle: handle, Session: kind == transport.ClaimSession}
		for _, c := range claims {
			if c.Kind == kind && c.Handle == handle {
				o.PID, o.Program = c.PID, c.Program
			}
		}
		if o.PID == 0 && (t.dev.Managed() || t.chip.owns(kind, handle)) { // a claim that could not be made
			o.PID = os.Getpid()
		}
		all = append(all, o)
	}
	for _, h := range keys {
		add(transport.ClaimKey, h)
	}
	for _, h := range sessions {
		add(transport.ClaimSession, h)
	}
	return all, nil
}

// FlushLeftovers frees the keys and sessions that no living process says it has
// loaded, and returns how many they were: those of killed programs, and those of
// programs that do not tell. Those of living ones, this one included, stay.
func (t *TPM) FlushLeftovers() (keys, sessions int, err error) {
	err = t.turn(func() error {
		all, err := t.loadedNow()
		if err != nil {
			return err
		}
		var errs []error
		// Sessions come last in all, and first here: a key takes along those that were
		// opened for it.
		for _, o := range slices.Backward(all) {
			switch {
			case o.PID != 0:
			case o.Session:
				if err = t.chip.flushSession(o.Handle); err == nil {
					sessions++
				}
			default:
				if err = t.chip.flushKey(o.Handle); err == nil {
					keys++
				}
			}
			errs = append(errs, err)
		}
		return errors.Join(errs...)
	})
	return keys, sessions, doingError("flush what was left behind", err)
}

// claimed tells whether a living process has claimed a key or a session. Where that
// cannot be known, everything is claimed.
func (t *TPM) claimed(kind byte, handle uint32) bool {
	if t.chip.owns(kind, handle) {
		return true
	}
	claims, err := t.dev.Claims()
	return err != nil || slices.ContainsFunc(claims, func(c transport.Claim) bool {
		return c.Kind == kind && c.Handle == handle
	})
}

// others reports whether another living process says that a key is its.
func (t *TPM) others(in loadedKey) bool { return t.dev.Foreign(transport.ClaimKey, in.number()) }

// explainNoRoom says who has taken all the places.
func (t *TPM) explainNoRoom(why error) error {
	all, err := t.Loaded()
	if err != nil {
		return why
	}
	left := 0
	var living []string
	for _, o := range all {
		who := fmt.Sprintf("%s (process %d)", cmp.Or(o.Program, "a program"), o.PID)
		switch {
		case o.PID == 0:
			left++
		case o.PID != os.Getpid() && !slices.Contains(living, who):
			living = append(living, who)
		}
	}
	if left > 0 {
		return fmt.Errorf("%d of the %d keys and sessions in the TPM belong to no living program that says so: %w", left, len(all), why)
	}
	if len(living) > 0 {
		return fmt.Errorf("the TPM is full of what belongs to %s: %w", strings.Join(living, ", "), why)
	}
	return why
}
