package transport

import (
	"errors"
	"fmt"
)

// setupLink is a link to a software TPM that begins empty.
type setupLink interface {
	link
	setupNeeded() bool
	setupDone() error
}

// errNotEmulator is what only the emulator can do.
var errNotEmulator = errors.New("only the emulator can be set up by this program")

// SetupNeeded reports whether this is an emulator whose state was created by
// Open and whose setting up has not been finished with SetupDone. Ask it within
// a turn, and keep the turn until the TPM is set up: another process may be
// doing the same. A program killed on the way leaves it true, with any part of
// the work done.
func (d *Device) SetupNeeded() bool {
	s, ok := d.link.(setupLink)
	return ok && s.setupNeeded()
}

// SetupDone notes for all later users that the emulator is set up.
func (d *Device) SetupDone() error {
	s, ok := d.link.(setupLink)
	if !ok {
		return fmt.Errorf("set up %s: %w", d.name, errNotEmulator)
	}
	if err := s.setupDone(); err != nil {
		return fmt.Errorf("set up %s: %w", d.name, err)
	}
	return nil
}
