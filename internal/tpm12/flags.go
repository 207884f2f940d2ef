package tpm12

import "encoding/binary"

// Flags are the bits of TPM_PERMANENT_FLAGS and TPM_STCLEAR_FLAGS that decide
// what a TPM can do now. TPM Main Part 2, sections 7.1 and 7.2.
type Flags struct {
	// Permanent.
	Disabled          bool // disable
	CanBeOwned        bool // ownership: TakeOwnership is allowed
	Deactivated       bool // deactivated: what the next start takes over
	DisableOwnerClear bool // OwnerClear is TPM_CLEAR_DISABLED
	PresenceFixed     bool // physicalPresenceLifetimeLock: the next two stay as they are
	PresenceByPin     bool // physicalPresenceHWEnable: a switch of the machine asserts presence
	PresenceByCommand bool // physicalPresenceCMDEnable
	ReadSRKPub        bool // the SRK's public key can be read with its secret

	// Since the last start.
	NowDeactivated    bool // deactivated
	DisableForceClear bool // ForceClear is TPM_CLEAR_DISABLED
	Present           bool // physicalPresence, as asserted by command
	PresenceLocked    bool // physicalPresenceLock: Present stays false
}

// Flags returns the TPM's flags; two commands.
func (c *Conn) Flags() (*Flags, error) {
	// readSRKPub, the last one used here, is the 17th flag; early 1.2 chips end
	// before it, but none before the command's presence, the 9th.
	permanent, err := c.flagBits(flagPermanent, tagPermFlags, 9)
	if err != nil {
		return nil, err
	}
	volatile, err := c.flagBits(flagVolatile, tagSTClearFlags, 1)
	if err != nil {
		return nil, err
	}
	return &Flags{
		Disabled: permanent.has(0), CanBeOwned: permanent.has(1), Deactivated: permanent.has(2),
		DisableOwnerClear: permanent.has(4), PresenceFixed: permanent.has(6), PresenceByPin: permanent.has(7),
		PresenceByCommand: permanent.has(8), ReadSRKPub: permanent.has(16),
		NowDeactivated: volatile.has(0), DisableForceClear: volatile.has(1),
		Present: volatile.has(2), PresenceLocked: volatile.has(3),
	}, nil
}

// bits are flags, a byte each.
type bits []byte

// has reports whether a flag is there and set.
func (b bits) has(i int) bool { return i < len(b) && b[i] != 0 }

// flagBits returns a structure of flags, of which there are least at least.
func (c *Conn) flagBits(subCap uint32, tag uint16, least int) (bits, error) {
	cmd, data, err := c.getCapability(capFlag, u32(subCap))
	if err != nil {
		return nil, err
	}
	if len(data) < 2+least || binary.BigEndian.Uint16(data) != tag {
		return nil, cmd.untrusted("%d bytes are no flags with tag %#04x", len(data), tag)
	}
	return bits(data[2:]), nil
}
