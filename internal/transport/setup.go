package transport

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
)

// setupLink is a link to a software TPM that begins empty and can be restarted.
type setupLink interface {
	link
	setupNeeded() bool
	setupDone() error
	restart() error // in a turn
}

// errNotEmulator is what only the emulator can do.
var errNotEmulator = errors.New("only the emulator can be set up and restarted by this program")

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

// startupClear is TPM_Startup(TPM_ST_CLEAR): TPM Main Part 3, section 3.2.
var startupClear = []byte{0x00, 0xC1, 0, 0, 0, 12, 0, 0, 0, 0x99, 0x00, 0x01}

// Restart switches the emulator off and on again, as a reboot does to a chip:
// keys and sessions in it are lost, its state is kept. It needs a turn.
func (d *Device) Restart() error {
	if err := d.restart(); err != nil {
		return fmt.Errorf("restart %s: %w", d.name, err)
	}
	return d.command("TPM_Startup", startupClear)
}

func (d *Device) restart() error {
	s, ok := d.link.(setupLink)
	if !ok {
		return errNotEmulator
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.usableLocked(); err != nil {
		return err
	}
	if !d.inTurn {
		return errNoTurn
	}
	return s.restart()
}

// Activate enables and activates the emulator by physical presence, and restarts
// it to make that true. It needs a turn. A TPM that is enabled and active already
// stays so.
func (d *Device) Activate() error {
	if !d.Emulator() {
		return fmt.Errorf("activate %s: %w", d.name, errNotEmulator)
	}
	// TPM Main Part 3, sections 4.4 (TSC_PhysicalPresence), 4.3 and 4.5.
	for _, c := range []struct {
		what string
		body []byte
	}{
		{"TSC_PhysicalPresence CMD_ENABLE", []byte{0x40, 0x00, 0x00, 0x0A, 0x00, 0x20}},
		{"TSC_PhysicalPresence PRESENT", []byte{0x40, 0x00, 0x00, 0x0A, 0x00, 0x08}},
		{"TPM_PhysicalEnable", []byte{0x00, 0x00, 0x00, 0x6F}},
		{"TPM_PhysicalSetDeactivated FALSE", []byte{0x00, 0x00, 0x00, 0x72, 0x00}},
	} {
		cmd := append([]byte{0x00, 0xC1, 0, 0, 0, byte(6 + len(c.body))}, c.body...)
		if err := d.command(c.what, cmd); err != nil {
			return err
		}
	}
	return d.Restart()
}

// command sends a command that answers nothing but its result.
func (d *Device) command(what string, cmd []byte) error {
	rsp, err := d.Send(cmd)
	if err != nil {
		return err
	}
	if code := rsp[6:10]; !bytes.Equal(code, make([]byte, 4)) {
		return fmt.Errorf("set up %s: %s: TPM error %#x", d.name, what, binary.BigEndian.Uint32(code))
	}
	return nil
}
