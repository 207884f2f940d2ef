package main

import (
	"fmt"
	"os"
	"strings"
	"time"

	"maclef/internal/sysfs"
)

func (r *report) rows() []row {
	rows := []row{{"device", r.Name}}
	if r.Kernel != nil {
		rows = append(rows, kernelRows(r.Kernel, r.bypasses)...)
	}
	rows = append(rows, row{"family", orUnknown("TPM ", r.Family)})
	if r.Vendor != "" {
		rows = append(rows, row{"vendor", vendorText(r.Vendor, r.VendorName)})
	}
	if r.Model != "" {
		rows = append(rows, row{"model", r.Model})
	}
	if r.Firmware != "" {
		rows = append(rows, row{"firmware", r.Firmware})
	}
	if r.Specification != nil {
		rows = append(rows, row{"specification", r.specText()})
	}
	if r.Family == "2.0" {
		rows = append(rows, r.rows20()...)
	} else {
		rows = append(rows, r.rows12()...)
	}
	for _, n := range r.Others {
		text := joinKnown(n.Device, orUnknown("TPM ", n.Family), n.Driver, n.ID) + "; see tpmctl status -tpm " + n.Device
		rows = append(rows, row{"another TPM", text})
	}
	return rows
}

func (r *report) specText() string {
	if r.Family == "2.0" {
		return fmt.Sprintf("2.0, level %d, revision %s", r.Specification.Level, r.Specification.Revision)
	}
	return fmt.Sprintf("1.2, level %d, errata %d", r.Specification.Level, r.Specification.Errata)
}

// rows12 returns the state of a TPM 1.2, with a hint for everything that is missing.
func (r *report) rows12() []row {
	var rows []row
	add := func(what string, known bool, how string) {
		if known {
			rows = append(rows, row{what, how})
		}
	}
	add("enabled", r.Enabled != nil, yesOr(r.Enabled, "tpmctl enable, or the firmware's (BIOS) menu"))
	activate := "tpmctl activate, or the firmware's (BIOS) menu, and restart"
	if r.RestartNeeded {
		activate = "from its next start on: " + restartText(r.Name, r.Emulator)
	}
	active := yesOr(r.Active, activate)
	if r.UntilRestart {
		active = "yes, until the next start; tpmctl activate keeps it"
	}
	add("active", r.Active != nil, active)
	ownership := "take ownership: tpmctl own"
	if r.CanBeOwned != nil && !*r.CanBeOwned {
		ownership = "it may not have an owner: tpmctl own changes that"
	}
	add("owned", r.Owned != nil, yesOr(r.Owned, ownership))
	add("endorsement key", r.EndorsementKey != nil, yesOr(r.EndorsementKey, "tpmctl own makes one"))
	add("lockout", r.Error == "", r.lockoutText())
	if r.KeySlots != nil {
		add("key slots", true, fmt.Sprintf("%d of %d free", r.KeySlots.Free, r.KeySlots.Total))
	}
	rows = append(rows, r.Loaded.rows()...)
	if r.Presence != nil {
		add("physical presence", true, r.presenceText())
	}
	return rows
}

// yesOr returns yes, or no with a hint.
func yesOr(ok *bool, hint string) string {
	switch {
	case ok == nil:
		return "unknown"
	case *ok:
		return "yes"
	}
	return "no: " + hint
}

func orUnknown(before, text string) string {
	if text == "" {
		return "unknown"
	}
	return before + text
}

func (r *report) lockoutText() string {
	l := r.Lockout
	if l == nil {
		return "unknown: this TPM does not report it"
	}
	if l.Tries == nil {
		return map[bool]string{true: "locked after too many wrong secrets", false: "no"}[l.Locked]
	}
	lasting := time.Duration(*l.Seconds) * time.Second
	switch {
	case r.Family == "2.0":
		return r.lockoutText20(lasting)
	case l.Locked:
		return fmt.Sprintf("locked: %d wrong secrets; the lock lasts %v from the last one; tpmctl reset-lockout ends it", *l.Tries, lasting)
	case *l.Tries > *l.Threshold:
		return fmt.Sprintf("no (all %d tries are used: the next wrong secret can lock it)", *l.Threshold)
	}
	return fmt.Sprintf("no (%d of %d tries used)", *l.Tries, *l.Threshold)
}

// presenceText says who can enable, activate and clear the TPM without its owner.
func (r *report) presenceText() string {
	switch p := r.Presence; {
	case p.Asserted:
		return "asserted: any program may enable, disable or clear this TPM; a restart ends it: " + restartText(r.Name, r.Emulator)
	case p.BySwitch:
		return "by a switch or jumper of the machine"
	case p.Locked:
		return "locked since the last start: only the firmware (BIOS) can enable, activate or clear this TPM without its owner"
	case p.ByCommand, !p.Fixed:
		return "by command: tpmctl can enable, activate and clear this TPM without its owner"
	}
	return "never by command: only the firmware (BIOS) can enable, activate or clear this TPM without its owner"
}

func kernelRows(n *sysfs.Node, bypasses bool) []row {
	var rows []row
	if n.Manager != "" {
		text := n.Manager
		if len(n.UsedBy) > 0 {
			text += ", used by " + processesText(n.UsedBy)
		}
		if bypasses {
			text += "; " + n.Device + " is for machines on which nobody uses it: -tpm " + n.Manager
		}
		rows = append(rows, row{"resource manager", text})
	}
	rows = append(rows, row{"driver", orUnknown("", joinKnown(n.Driver, n.ID, n.Description))})
	if p := n.PPI; p != nil && p.Pending != 0 {
		rows = append(rows, row{"asked of firmware", fmt.Sprintf("%v, at the next start; to withdraw it: %s", p.Pending, p.Withdrawal())})
	} else if p != nil && p.Last != 0 {
		rows = append(rows, row{"asked of firmware", fmt.Sprintf("%v, before the last start; it answered %q", p.Last, p.Answer)})
	}
	return append(rows, row{"held by", heldText(n.HeldBy)})
}

func processesText(all []sysfs.Process) string {
	var names []string
	for _, p := range all {
		names = append(names, fmt.Sprintf("%s (process %d)", p.Name, p.PID))
	}
	return strings.Join(names, ", ")
}

func heldText(holders []sysfs.Process) string {
	switch {
	case len(holders) > 0:
		return processesText(holders)
	case os.Geteuid() != 0:
		return "nobody that this user can see"
	}
	return "nobody"
}

// joinKnown joins the words that are not empty with commas.
func joinKnown(words ...string) string {
	var known []string
	for _, w := range words {
		if w != "" {
			known = append(known, w)
		}
	}
	return strings.Join(known, ", ")
}

// rows20 returns the state of a TPM 2.0, its key types and its persistent keys.
func (r *report) rows20() []row {
	if r.Owned == nil { // only the kernel was asked
		return nil
	}
	rows := []row{
		{"usable", r.usableText()},
		{"owner's secret", map[bool]string{true: "set: -srk-pass gives it", false: "not set"}[*r.Owned]},
		{"keys", r.keysText()},
		{"hashes", strings.Join(r.Hashes, ", ")},
		{"lockout", r.lockoutText()},
		{"key slots", r.slotsText()},
	}
	rows = append(rows, r.Loaded.rows()...)
	for _, k := range r.Persistent {
		rows = append(rows, row{fmt.Sprintf("kept at %#x", k.Handle), orUnknown("", k.Key)})
	}
	return rows
}

func (r *report) usableText() string {
	switch {
	case !*r.Enabled:
		return "no: the storage hierarchy is disabled; a restart of the TPM or the firmware's (BIOS) menu enables it"
	case r.Lockout != nil && r.Lockout.Locked:
		return "yes, but no key with a secret: too many wrong ones were tried"
	}
	return "yes"
}

// keysText lists the types as keygen -type takes them.
func (r *report) keysText() string {
	if len(r.KeyTypes) == 0 {
		return "none that this program uses"
	}
	var types []string
	for _, t := range r.KeyTypes {
		types = append(types, string(t))
	}
	return strings.Join(types, ", ")
}

// slotsText returns the free slots in the chip, without those of a resource manager.
func (r *report) slotsText() string {
	text := fmt.Sprintf("%d free", r.KeySlots.Free)
	if r.KeySlots.Total > 0 {
		text = fmt.Sprintf("%d of %d free", r.KeySlots.Free, r.KeySlots.Total)
	}
	if isManager(r.Name) {
		text += "; the kernel's resource manager makes room as it is needed"
	}
	return text
}

// lockoutText20 is lockoutText for a TPM 2.0, which forgets one try at a time.
func (r *report) lockoutText20(forgotten time.Duration) string {
	text := fmt.Sprintf("no: %d of %d tries used", *r.Lockout.Tries, *r.Lockout.Threshold)
	if r.Lockout.Locked {
		text = fmt.Sprintf("locked: %d of %d tries used; tpmctl reset-lockout ends it", *r.Lockout.Tries, *r.Lockout.Threshold)
	}
	if forgotten == 0 {
		return text + "; none is forgotten by itself"
	}
	return fmt.Sprintf("%s; one is forgotten every %v", text, forgotten)
}

// vendorText returns a maker's vendor ID and name, once if they are the same.
func vendorText(id, name string) string {
	if strings.HasPrefix(name, id) {
		return name
	}
	return joinKnown(id, name)
}

// vendorNames are the makers of TPMs in TCG's vendor ID registry.
var vendorNames = map[string]string{
	"AMD":  "AMD",
	"ANT":  "Ant Group",
	"ATML": "Atmel",
	"BRCM": "Broadcom",
	"CSCO": "Cisco",
	"FLYS": "FlySlice",
	"GOOG": "Google",
	"HISI": "Huawei",
	"HPE":  "HPE",
	"HPI":  "HP",
	"IBM":  "IBM (or its software TPM: swtpm, libtpms)",
	"IFX":  "Infineon",
	"INTC": "Intel",
	"LEN":  "Lenovo",
	"MSFT": "Microsoft (or its simulator)",
	"NSG":  "NSING",
	"NSM":  "National Semiconductor",
	"NTC":  "Nuvoton",
	"NTZ":  "Nationz",
	"QCOM": "Qualcomm",
	"ROCC": "Rockchip",
	"SECE": "SecEdge",
	"SMSC": "SMSC",
	"SMSN": "Samsung",
	"SNS":  "Sinosun",
	"STM":  "STMicroelectronics",
	"TXN":  "Texas Instruments",
	"VMW":  "VMware",
	"WEC":  "Winbond",
}
