package tpm12

import "encoding/binary"

// A Presence is an argument of PhysicalPresence. It changes either lifetime settings or settings
// until the next start, not both at once. TPM Main Part 2, section 4.9 (TPM_PHYSICAL_PRESENCE).
type Presence uint16

// The settings that this project uses.
const (
	PresenceLock       Presence = 0x0004 // PresencePresent and PresenceNotPresent fail until the next start
	PresencePresent    Presence = 0x0008
	PresenceNotPresent Presence = 0x0010
	PresenceCMDEnable  Presence = 0x0020 // lifetime setting: the command can assert presence
	PresenceCMDDisable Presence = 0x0100 // lifetime setting: the command cannot assert presence
)

// PhysicalPresence asserts or removes physical presence by command, or sets whether the command
// may do that. If the TPM's settings do not allow it, the error is TPM_BAD_PARAMETER. TPM Main
// Part 3, section 6.6 (TSC_PhysicalPresence).
func (c *Conn) PhysicalPresence(p Presence) error {
	return c.runPlain(&command{ordinal: ordPhysicalPresence, params: binary.BigEndian.AppendUint16(nil, uint16(p))})
}

// PhysicalEnable enables the TPM immediately. Without physical presence the error is
// TPM_BAD_PRESENCE. TPM Main Part 3, section 5.3 (TPM_PhysicalEnable).
func (c *Conn) PhysicalEnable() error {
	return c.runPlain(&command{ordinal: ordPhysicalEnable})
}

// PhysicalDisable disables the TPM immediately. It needs physical presence. TPM Main Part 3,
// section 5.4 (TPM_PhysicalDisable).
func (c *Conn) PhysicalDisable() error {
	return c.runPlain(&command{ordinal: ordPhysicalDisable})
}

// PhysicalSetDeactivated sets whether the TPM is deactivated from its next start on. It needs
// physical presence and an enabled TPM. TPM Main Part 3, section 5.5
// (TPM_PhysicalSetDeactivated).
func (c *Conn) PhysicalSetDeactivated(deactivated bool) error {
	return c.runPlain(&command{ordinal: ordPhysicalSetDeactivated, params: boolean(deactivated)})
}

// SetOwnerInstall allows or forbids TakeOwnership. It needs physical presence and an enabled,
// active TPM, and has no effect on an owned TPM. TPM Main Part 3, section 5.1
// (TPM_SetOwnerInstall).
func (c *Conn) SetOwnerInstall(allow bool) error {
	return c.runPlain(&command{ordinal: ordSetOwnerInstall, params: boolean(allow)})
}

// ForceClear is OwnerClear with physical presence instead of the owner's secret. It needs an
// enabled, active TPM. TPM Main Part 3, section 6.3 (TPM_ForceClear).
func (c *Conn) ForceClear() error {
	err := c.runPlain(&command{ordinal: ordForceClear})
	if err == nil {
		c.Forget()
	}
	return err
}

// boolean returns a BOOL.
func boolean(b bool) []byte {
	if b {
		return []byte{1}
	}
	return []byte{0}
}
