package tpm12

import (
	"encoding/binary"

	"golang.org/x/crypto/cryptobyte"
)

// Capability areas. TPM Main Part 2, section 21.1 (TPM_CAPABILITY_AREA).
const (
	capFlag       = 0x04
	capProperty   = 0x05
	capHandle     = 0x14
	capDALogic    = 0x19
	capVersionVal = 0x1a
)

// Subcaps of capFlag and capProperty. TPM Main Part 2, section 21.2.
const (
	flagPermanent   = 0x108
	flagVolatile    = 0x109
	propOwner       = 0x111
	propFreeKeys    = 0x104
	propMaxKeys     = 0x110
	propManufact    = 0x103
	entitySRK       = 0x0004 // TPM_ET_SRK
	tagDAInfo       = 0x0037 // TPM_TAG_DA_INFO
	tagDALimited    = 0x0038 // TPM_TAG_DA_INFO_LIMITED
	actionSize      = 6      // TPM_DA_ACTION_TYPE: tag and actions
	tagVersionInfo  = 0x0030 // TPM_TAG_CAP_VERSION_INFO
	tagPermFlags    = 0x001f // TPM_TAG_PERMANENT_FLAGS
	tagSTClearFlags = 0x0020 // TPM_TAG_STCLEAR_FLAGS
)

// getCapability runs TPM_GetCapability and returns the reply's data. TPM Main Part 3, section 7.1
// (TPM_GetCapability).
func (c *Conn) getCapability(area uint32, subCap []byte) (*command, []byte, error) {
	cmd := &command{ordinal: ordGetCapability, params: append(u32(area), sized(subCap)...)}
	_, out, err := c.run(cmd)
	if err != nil {
		return cmd, nil, err
	}
	data, err := cmd.unsized(out)
	return cmd, data, err
}

// VersionInfo is TPM Main Part 2, section 21.6 (TPM_CAP_VERSION_INFO).
type VersionInfo struct {
	RevMajor, RevMinor uint8 // firmware revision
	SpecLevel          uint16
	ErrataRev          uint8
	VendorID           [4]byte // ASCII, such as "IFX\x00"
}

// Version returns the maker, the firmware and the specification of the TPM.
func (c *Conn) Version() (*VersionInfo, error) {
	cmd, data, err := c.getCapability(capVersionVal, nil)
	if err != nil {
		return nil, err
	}
	var (
		v            VersionInfo
		tag, vendor  uint16
		major, minor uint8
	)
	s := cryptobyte.String(data)
	if !s.ReadUint16(&tag) || tag != tagVersionInfo ||
		!s.ReadUint8(&major) || !s.ReadUint8(&minor) || !s.ReadUint8(&v.RevMajor) || !s.ReadUint8(&v.RevMinor) ||
		!s.ReadUint16(&v.SpecLevel) || !s.ReadUint8(&v.ErrataRev) || !s.CopyBytes(v.VendorID[:]) ||
		!s.ReadUint16(&vendor) || len(s) != int(vendor) {
		return nil, cmd.badReply("%d bytes are not a valid TPM_CAP_VERSION_INFO", len(data))
	}
	return &v, nil
}

// Owned reports whether the TPM has an owner.
func (c *Conn) Owned() (bool, error) {
	cmd, data, err := c.getCapability(capProperty, u32(propOwner))
	if err != nil {
		return false, err
	}
	if len(data) != 1 {
		return false, cmd.badReply("%d bytes are not a valid BOOL", len(data))
	}
	return data[0] != 0, nil
}

// KeySlots returns how many 2048-bit keys the TPM can still load, and how many slots it has in
// total.
func (c *Conn) KeySlots() (free, total uint32, err error) {
	if free, err = c.property(propFreeKeys); err != nil {
		return 0, 0, err
	}
	total, err = c.property(propMaxKeys)
	return free, total, err
}

// property returns a property that is a 32-bit number.
func (c *Conn) property(prop uint32) (uint32, error) {
	cmd, data, err := c.getCapability(capProperty, u32(prop))
	if err != nil {
		return 0, err
	}
	if len(data) != 4 {
		return 0, cmd.badReply("%d bytes are not a valid UINT32", len(data))
	}
	return binary.BigEndian.Uint32(data), nil
}

// LoadedKeys returns the handles of all loaded keys, including those that other programs loaded.
func (c *Conn) LoadedKeys() ([]Handle, error) {
	loaded, err := c.loaded(resourceKey)
	var keys []Handle
	for _, h := range loaded {
		keys = append(keys, Handle(h))
	}
	return keys, err
}

// Sessions returns the handles of all open authorization sessions, including those of other
// programs.
func (c *Conn) Sessions() ([]uint32, error) { return c.loaded(resourceAuth) }

// loaded returns the handles of all loaded resources of a type (TPM_KEY_HANDLE_LIST).
func (c *Conn) loaded(resource uint32) ([]uint32, error) {
	cmd, data, err := c.getCapability(capHandle, u32(resource))
	if err != nil {
		return nil, err
	}
	if len(data) < 2 || len(data) != 2+4*int(binary.BigEndian.Uint16(data)) {
		return nil, cmd.badReply("%d bytes are not a valid TPM_KEY_HANDLE_LIST", len(data))
	}
	var handles []uint32
	for rest := data[2:]; len(rest) > 0; rest = rest[4:] {
		handles = append(handles, binary.BigEndian.Uint32(rest))
	}
	return handles, nil
}

// DAInfo is the state of the dictionary-attack defence. TPM Main Part 2,
// sections 21.7 (TPM_DA_INFO) and 21.8 (TPM_DA_INFO_LIMITED).
type DAInfo struct {
	Locked    bool
	Known     bool   // false: the TPM reports only Locked, and the numbers below are not set
	Count     uint16 // wrong secrets so far
	Threshold uint16 // the TPM locks when Count exceeds this
	Seconds   uint32 // how long the lock lasts
}

// DictionaryAttack returns the state of the dictionary-attack defence for the SRK. It costs no
// try. A TPM without this capability answers TPM_BAD_MODE or TPM_BAD_PARAMETER.
//
//	tag(2) state(1) [currentCount(2) thresholdCount(2)] actionAtThreshold(6)
//	[actionDependValue(4)] vendorDataSize(4) vendorData
func (c *Conn) DictionaryAttack() (*DAInfo, error) {
	cmd, data, err := c.getCapability(capDALogic, []byte{0, entitySRK})
	if err != nil {
		return nil, err
	}
	var (
		d      DAInfo
		tag    uint16
		state  uint8
		vendor uint32
	)
	s := cryptobyte.String(data)
	ok := s.ReadUint16(&tag) && s.ReadUint8(&state)
	d.Locked, d.Known = state != 0, tag == tagDAInfo
	switch tag {
	case tagDAInfo:
		ok = ok && s.ReadUint16(&d.Count) && s.ReadUint16(&d.Threshold) && s.Skip(actionSize) && s.ReadUint32(&d.Seconds)
	case tagDALimited:
		ok = ok && s.Skip(actionSize)
	default:
		ok = false
	}
	if !ok || !s.ReadUint32(&vendor) || uint64(len(s)) != uint64(vendor) {
		return nil, cmd.badReply("%d bytes are not a valid TPM_DA_INFO", len(data))
	}
	return &d, nil
}

// Flags are the flags of TPM_PERMANENT_FLAGS and TPM_STCLEAR_FLAGS that decide what the TPM can
// do now. TPM Main Part 2, sections 7.1 and 7.2.
type Flags struct {
	// Permanent.
	Disabled          bool // disable
	CanBeOwned        bool // ownership: TakeOwnership is allowed
	Deactivated       bool // deactivated: takes effect at the next start
	DisableOwnerClear bool // OwnerClear fails with TPM_CLEAR_DISABLED
	PresenceFixed     bool // physicalPresenceLifetimeLock: the next two flags cannot be changed
	PresenceByPin     bool // physicalPresenceHWEnable: a hardware switch asserts presence
	PresenceByCommand bool // physicalPresenceCMDEnable: a command asserts presence
	ReadSRKPub        bool // readSRKPub: the SRK's secret is enough to read the SRK's public key

	// Since the last start.
	NowDeactivated    bool // deactivated
	DisableForceClear bool // ForceClear fails with TPM_CLEAR_DISABLED
	Present           bool // physicalPresence, asserted by command
	PresenceLocked    bool // physicalPresenceLock: Present cannot be set
}

// Flags reads both flag structures with two commands.
func (c *Conn) Flags() (*Flags, error) {
	// readSRKPub, the last flag used here, is the 17th. Early 1.2 chips return fewer flags, but
	// always the 9th, physicalPresenceCMDEnable.
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

// bits are flags of one byte each, as the specification has them.
type bits []byte

// has reports whether the flag exists and is set.
func (b bits) has(i int) bool { return i < len(b) && b[i] != 0 }

// flagBits returns a flags structure, which must have at least least flags.
func (c *Conn) flagBits(subCap uint32, tag uint16, least int) (bits, error) {
	cmd, data, err := c.getCapability(capFlag, u32(subCap))
	if err != nil {
		return nil, err
	}
	if len(data) < 2+least || binary.BigEndian.Uint16(data) != tag {
		return nil, cmd.badReply("%d bytes are not flags with tag %#04x", len(data), tag)
	}
	return bits(data[2:]), nil
}
