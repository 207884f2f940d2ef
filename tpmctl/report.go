package main

import (
	"path/filepath"
	"strings"

	"maclef/internal/sysfs"
	"maclef/tpmkey"
)

// A report is the output of tpmctl status. Programs read its JSON, so field names do not change. A
// field is left out if it is unknown or does not apply to this TPM.
type report struct {
	Name     string `json:"name"`     // as -tpm takes it
	Emulator bool   `json:"emulator"` // a software TPM of this project
	Family   string `json:"family,omitempty"`
	Usable   bool   `json:"usable"`          // key files can be used now
	Error    string `json:"error,omitempty"` // why only the kernel was asked

	Vendor        string         `json:"vendor,omitempty"`      // "IFX"
	VendorName    string         `json:"vendor_name,omitempty"` // "Infineon"
	Model         string         `json:"model,omitempty"`       // TPM 2.0
	Firmware      string         `json:"firmware,omitempty"`
	Specification *specification `json:"specification,omitempty"`

	Enabled        *bool `json:"enabled,omitempty"`
	Active         *bool `json:"active,omitempty"`
	RestartNeeded  bool  `json:"restart_needed,omitempty"`  // active only after the next start
	UntilRestart   bool  `json:"until_restart,omitempty"`   // active only until the next start
	Owned          *bool `json:"owned,omitempty"`           // TPM 2.0: the owner's secret is set
	CanBeOwned     *bool `json:"can_be_owned,omitempty"`    // TPM 1.2
	EndorsementKey *bool `json:"endorsement_key,omitempty"` // TPM 1.2

	Lockout  *lockout  `json:"lockout,omitempty"`
	KeySlots *slots    `json:"key_slots,omitempty"`
	Loaded   loaded    `json:"loaded,omitzero"`             // empty if nothing is loaded, left out if unknown
	Presence *presence `json:"physical_presence,omitempty"` // TPM 1.2

	KeyTypes   []tpmkey.KeyType `json:"key_types,omitempty"`  // TPM 2.0, as keygen -type takes them
	Hashes     []string         `json:"hashes,omitempty"`     // TPM 2.0, such as "SHA-256"
	Persistent []persistentKey  `json:"persistent,omitempty"` // TPM 2.0: persistent keys

	Kernel *sysfs.Node   `json:"kernel,omitempty"` // if the TPM is a device
	Others []*sysfs.Node `json:"others,omitempty"` // the machine's other TPMs

	bypasses bool // opened without the kernel's resource manager
}

type specification struct {
	Level    int    `json:"level"`
	Errata   int    `json:"errata,omitempty"`   // TPM 1.2
	Revision string `json:"revision,omitempty"` // TPM 2.0
}

type lockout struct {
	Locked    bool `json:"locked"`
	Tries     *int `json:"tries,omitempty"`     // wrong secrets so far
	Threshold *int `json:"threshold,omitempty"` // see tpmkey.Lockout
	Seconds   *int `json:"seconds,omitempty"`   // TPM 1.2: length of the lock; 2.0: until one try is forgotten
}

type slots struct {
	Free  int `json:"free"`
	Total int `json:"total,omitempty"`
}

// A persistentKey is a key or sealed data that a TPM 2.0 keeps.
type persistentKey struct {
	Handle uint32 `json:"handle"`
	Key    string `json:"key,omitempty"` // description; left out if it cannot be read
}

type presence struct {
	Asserted  bool `json:"asserted"`
	Locked    bool `json:"locked"`     // until the next start
	ByCommand bool `json:"by_command"` // a command can assert it
	BySwitch  bool `json:"by_switch"`
	Fixed     bool `json:"fixed"` // by_command and by_switch cannot change
}

// newReport combines the TPM's status, nil if err is set, with what the kernel knows of a device.
func newReport(s *tpmkey.Status, node *sysfs.Node, all []*sysfs.Node, err error) *report {
	r := &report{Kernel: node}
	for _, n := range all {
		if node == nil || n.Device != node.Device {
			r.Others = append(r.Others, n)
		}
	}
	if s == nil {
		r.Name, r.Family, r.Error = node.Device, node.Family, err.Error()
		state := node.State()
		r.Vendor, r.Firmware = state.Vendor, state.Firmware
		r.Enabled, r.Active, r.Owned = state.Enabled, state.Active, state.Owned
		r.RestartNeeded, r.UntilRestart = state.RestartNeeded, state.UntilRestart
	} else {
		r.fill(s)
		r.bypasses = node != nil && node.Manager != "" && !isManager(s.Name)
	}
	r.VendorName = vendorNames[strings.ToUpper(r.Vendor)]
	return r
}

// isManager reports whether a device is the kernel's resource manager.
func isManager(device string) bool {
	if real, err := filepath.EvalSymlinks(device); err == nil {
		device = real
	}
	return strings.HasPrefix(filepath.Base(device), "tpmrm")
}

func (r *report) fill(s *tpmkey.Status) {
	r.Name, r.Emulator, r.Family = s.Name, s.Emulator, s.Family
	r.Vendor, r.Model, r.Firmware = s.Vendor, s.Model, s.Firmware
	r.Specification = &specification{Level: s.SpecLevel, Errata: s.ErrataRev, Revision: s.Revision}
	r.Enabled, r.Active, r.Owned = &s.Enabled, &s.Active, &s.Owned
	r.RestartNeeded, r.UntilRestart = s.RestartNeeded, s.UntilRestart
	if l := s.Lockout; l != nil {
		r.Lockout = &lockout{Locked: l.Locked}
		if l.Known {
			seconds := int(l.Duration.Seconds())
			r.Lockout.Tries, r.Lockout.Threshold, r.Lockout.Seconds = &l.Tries, &l.Threshold, &seconds
		}
	}
	r.KeySlots = &slots{Free: s.FreeKeys, Total: s.MaxKeys}
	if s.Family != "1.2" {
		r.Usable = s.Enabled // a lockout blocks only keys with a secret
		r.KeyTypes, r.Hashes = s.KeyTypes, s.Hashes
		return
	}
	r.Usable = s.Enabled && s.Active && s.Owned && (s.Lockout == nil || !s.Lockout.Locked)
	r.CanBeOwned, r.EndorsementKey = &s.CanBeOwned, s.EK
	r.Presence = &presence{
		Asserted: s.Presence.Asserted, Locked: s.Presence.Locked,
		ByCommand: !s.Presence.Locked && (s.Presence.ByCommand || !s.Presence.Fixed),
		BySwitch:  s.Presence.BySwitch, Fixed: s.Presence.Fixed,
	}
}
