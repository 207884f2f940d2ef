package main

import (
	"fmt"
	"strings"
	"time"
)

// rows20 says whether the keys of a TPM 2.0 can be used, and which it can have.
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
		return "no: the storage hierarchy is switched off, until the TPM starts anew or by the firmware's (BIOS) menu"
	case r.Lockout != nil && r.Lockout.Locked:
		return "yes, but no key with a secret: too many wrong ones were tried"
	}
	return "yes"
}

// keysText has the types as keygen takes them.
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

// slotsText does not tell what a resource manager makes of the places in the chip.
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

// lockoutText20 is lockoutText where one try is forgotten at a time.
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
