// Package sysfs reads what Linux says about TPMs in /sys, /proc and /dev, without opening a
// TPM. It also asks the firmware for operations that need physical presence.
package sysfs

import (
	"bufio"
	"encoding/hex"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"maclef/internal/printable"
)

// A Kernel is the place of /sys, /proc and /dev. The zero value is this machine. On other
// systems than Linux it finds nothing.
type Kernel struct {
	// Root is the directory that contains sys, proc and dev: for tests, and to look at the
	// files of another system.
	Root string
}

func (k Kernel) path(elements ...string) string {
	return filepath.Join(append([]string{k.Root, "/"}, elements...)...)
}

// A Process is a running program.
type Process struct {
	PID  int    `json:"pid"`
	Name string `json:"program"`
}

// A Node is a TPM as the kernel describes it. Unknown fields are empty or nil.
type Node struct {
	Device      string `json:"device"`                     // "/dev/tpm0"
	Manager     string `json:"resource_manager,omitempty"` // "/dev/tpmrm0", TPM 2.0 only
	Family      string `json:"family,omitempty"`           // "1.2" or "2.0"
	Driver      string `json:"driver,omitempty"`           // "tpm_tis"
	ID          string `json:"id,omitempty"`               // from the firmware's tables: "IFX0102", "MSFT0101"
	Description string `json:"description,omitempty"`      // from the firmware's tables

	// HeldBy are the processes that have the device open and so exclude others. UsedBy are
	// the processes that use the resource manager, except this one. Both contain only what
	// this user may see.
	HeldBy []Process `json:"held_by,omitempty"`
	UsedBy []Process `json:"used_by,omitempty"`
	PPI    *PPI      `json:"ppi,omitempty"`

	dir string
}

// Nodes returns the machine's TPMs, ordered by number.
func (k Kernel) Nodes() []*Node {
	dirs, _ := filepath.Glob(k.path("sys/class/tpm/tpm[0-9]*"))
	slices.SortFunc(dirs, func(a, b string) int {
		if len(a) != len(b) {
			return len(a) - len(b)
		}
		return strings.Compare(a, b)
	})
	var nodes []*Node
	for _, dir := range dirs {
		nodes = append(nodes, k.node(filepath.Base(dir)))
	}
	return nodes
}

// Node returns the TPM of a device that is named as for transport.Open. It returns nil for
// other kinds of names and for unknown devices. It finds the TPM by the device's number,
// wherever the file is; with a Root, where devices are plain files, by the file's name.
func (k Kernel) Node(name string) *Node {
	form, _, colon := strings.Cut(name, ":")
	switch {
	case !strings.ContainsAny(name, "/"), colon && (form == "unix" || form == "emulator" || form == "emulator2"):
		return nil
	}
	if k.Root == "" {
		return k.nodeByNumber(deviceNumber(name))
	}
	return k.nodeByPath(name)
}

// nodeByNumber returns the TPM whose device, or resource manager's device, has this number,
// such as "10:224".
func (k Kernel) nodeByNumber(number string) *Node {
	if number == "" {
		return nil
	}
	for _, pattern := range []string{"sys/class/tpm/tpm[0-9]*/dev", "sys/class/tpmrm/tpmrm[0-9]*/dev"} {
		paths, _ := filepath.Glob(k.path(pattern))
		for _, path := range paths {
			if readAttribute(path) != number {
				continue
			}
			return k.findNode(filepath.Base(filepath.Dir(path)))
		}
	}
	return nil
}

// nodeByPath returns the TPM whose device has the name of this path's file.
func (k Kernel) nodeByPath(name string) *Node {
	if real, err := filepath.EvalSymlinks(k.path(name)); err == nil {
		name = real
	}
	base := filepath.Base(name)
	if !strings.HasPrefix(base, "tpm") {
		return nil
	}
	return k.findNode(base)
}

// findNode returns the TPM of a device ("tpm0") or of its resource manager ("tpmrm0").
func (k Kernel) findNode(base string) *Node {
	if number, ok := strings.CutPrefix(base, "tpmrm"); ok {
		base = "tpm" + number
	}
	if _, err := os.Stat(k.path("sys/class/tpm", base)); err != nil {
		return nil
	}
	return k.node(base)
}

func (k Kernel) node(base string) *Node {
	dir := k.path("sys/class/tpm", base)
	n := &Node{Device: "/dev/" + base, dir: dir}
	if manager := "/dev/tpmrm" + strings.TrimPrefix(base, "tpm"); exists(k.path(manager)) {
		n.Manager = manager
	}
	if link, err := os.Readlink(filepath.Join(dir, "device/driver")); err == nil {
		n.Driver = filepath.Base(link)
	}
	n.Description = attribute(dir, "device/description", "device/firmware_node/description")
	n.ID = attribute(dir, "device/firmware_node/hid", "device/id", "device/modalias")
	n.Family = family(attribute(dir, "tpm_version_major"), n)
	n.HeldBy = k.Holders(n.Device)
	if n.Manager != "" {
		n.UsedBy = slices.DeleteFunc(k.Holders(n.Manager), func(p Process) bool { return p.PID == os.Getpid() })
	}
	n.PPI = readPPI(filepath.Join(dir, "ppi"), filepath.Join(dir, "device/ppi"))
	return n
}

// family returns the TPM's family. Kernels before 5.6 do not tell it. But only TPM 2.0 has
// a resource manager (since 4.12), and only TPM 1.2 has these attributes.
func family(major string, n *Node) string {
	switch {
	case major == "1", major == "" && (exists(filepath.Join(n.dir, "device/owned")) || exists(filepath.Join(n.dir, "owned"))):
		return "1.2"
	case major == "2", major == "" && n.Manager != "":
		return "2.0"
	}
	return ""
}

// attribute returns the contents of the first of these files that can be read, without
// white space around it. Kernels have moved some files.
func attribute(dir string, names ...string) string {
	for _, name := range names {
		if text := readAttribute(filepath.Join(dir, name)); text != "" {
			return text
		}
	}
	return ""
}

// maxAttribute is the largest page size of Linux. An attribute is at most one page.
const maxAttribute = 64 << 10

func readAttribute(path string) string {
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxAttribute))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(data))
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// WhyNone says, for a machine without a TPM, where it looked and what to do.
func (k Kernel) WhyNone() string {
	if nodes := k.Nodes(); len(nodes) > 0 {
		return "the kernel has a TPM, but " + nodes[0].Device + " is missing: pass it to this container, or have udev make it"
	}
	for _, table := range []string{"TPM2", "TCPA"} {
		if exists(k.path("sys/firmware/acpi/tables", table)) {
			return "the firmware announces a TPM (ACPI table " + table + "), but no driver has taken it: " +
				"modprobe tpm_tis, modprobe tpm_crb, and see dmesg | grep -i tpm"
		}
	}
	return "looked for /dev/tpm*, /sys/class/tpm/tpm* and the firmware's tables TCPA and TPM2, and found none: this machine has no TPM, " +
		"or it is switched off in the firmware's (BIOS) setup, under Security, TPM or Trusted Computing"
}

// A NodeState is what the driver of a TPM 1.2 says about its state. Unknown fields are nil
// or empty; for a TPM 2.0 all are.
type NodeState struct {
	Vendor   string // "IFX"
	Firmware string // "3.17"
	Enabled  *bool
	Active   *bool // now, if the kernel distinguishes it from the next start
	Owned    *bool

	RestartNeeded bool // active only after the next start
	UntilRestart  bool // active only until the next start
}

// State lets the driver ask the TPM. That works also while a program holds the device, but
// waits for the command that is running.
func (n *Node) State() *NodeState {
	s := &NodeState{
		Enabled: parseBool(attribute(n.dir, "device/enabled", "enabled")),
		Active:  parseBool(attribute(n.dir, "device/active", "active")),
		Owned:   parseBool(attribute(n.dir, "device/owned", "owned")),
	}
	if off := parseBool(attribute(n.dir, "device/temp_deactivated", "temp_deactivated")); off != nil && s.Active != nil {
		next, now := *s.Active, !*off
		s.RestartNeeded, s.UntilRestart = next && !now, now && !next
		s.Active = &now
	}
	s.readCaps(attribute(n.dir, "device/caps", "caps"))
	return s
}

// parseBool parses an attribute that is 0 or 1.
func parseBool(text string) *bool {
	if text != "0" && text != "1" {
		return nil
	}
	yes := text == "1"
	return &yes
}

// readCaps parses the driver's attribute caps of a TPM 1.2:
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
			s.Vendor = vendor(how)
		case what == "Firmware version":
			s.Firmware = how
		}
	}
}

// vendor converts a vendor's number to its letters.
func vendor(number string) string {
	raw, err := hex.DecodeString(strings.TrimPrefix(number, "0x"))
	if err != nil {
		return ""
	}
	return printable.ASCII(raw)
}
