package transport

import (
	"bufio"
	"encoding/hex"
	"strings"
)

// A NodeState is what the driver of a TPM 1.2 says of its state; nil or empty is
// what it does not say, which of a TPM 2.0 is everything.
type NodeState struct {
	Vendor   string // "IFX"
	Firmware string // "3.17"
	Enabled  *bool
	Active   *bool // since the last start, where the kernel tells the difference
	Owned    *bool

	RestartNeeded bool // active only from the next start on
	UntilRestart  bool // active only until the next start
}

// State has the driver ask the TPM, which it does also while a program holds the
// device, and waits for that program's command.
func (n *Node) State() *NodeState {
	s := &NodeState{
		Enabled: truth(attribute(n.dir, "device/enabled", "enabled")),
		Active:  truth(attribute(n.dir, "device/active", "active")),
		Owned:   truth(attribute(n.dir, "device/owned", "owned")),
	}
	if off := truth(attribute(n.dir, "device/temp_deactivated", "temp_deactivated")); off != nil && s.Active != nil {
		next, now := *s.Active, !*off
		s.RestartNeeded, s.UntilRestart = next && !now, now && !next
		s.Active = &now
	}
	s.readCaps(attribute(n.dir, "device/caps", "caps"))
	return s
}

// truth reads an attribute of 0 or 1.
func truth(text string) *bool {
	if text != "0" && text != "1" {
		return nil
	}
	yes := text == "1"
	return &yes
}

// readCaps reads what the driver says of a TPM 1.2:
//
//	Manufacturer: 0x49465800
//	TCG version: 1.2
//	Firmware version: 3.17
func (s *NodeState) readCaps(text string) {
	lines := bufio.NewScanner(strings.NewReader(text))
	for lines.Scan() {
		what, how, ok := strings.Cut(lines.Text(), ":")
		how = strings.TrimSpace(how)
		switch {
		case !ok:
		case what == "Manufacturer":
			s.Vendor = fourLetters(how)
		case what == "Firmware version":
			s.Firmware = how
		}
	}
}

// fourLetters reads a vendor's number as its letters, without what is none.
func fourLetters(number string) string {
	raw, err := hex.DecodeString(strings.TrimPrefix(number, "0x"))
	if err != nil {
		return ""
	}
	var letters []byte
	for _, b := range raw {
		if b > ' ' && b <= '~' {
			letters = append(letters, b)
		}
	}
	return string(letters)
}
