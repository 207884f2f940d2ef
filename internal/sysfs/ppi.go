package sysfs

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// A Request is an operation that the firmware does at the machine's next start. TCG PC
// Client Physical Presence Interface Specification, sections on the operation values for
// TPM 1.2 and for TPM 2.0. A TPM 2.0 has no activation, and no permission to take
// ownership: for it RequestEnable and RequestDisable switch its hierarchies, and every
// request with a clear clears it.
type Request int

// The requests that this project makes.
const (
	RequestEnable                   Request = 1
	RequestDisable                  Request = 2
	RequestActivate                 Request = 3
	RequestDeactivate               Request = 4
	RequestClear                    Request = 5
	RequestEnableActivate           Request = 6
	RequestAllowOwner               Request = 8
	RequestEnableActivateAllowOwner Request = 10
	RequestClearEnableActivate      Request = 14
	RequestEnableClearEnable        Request = 22
)

var requestTexts = map[Request]string{
	RequestEnable:                   "enable the TPM",
	RequestDisable:                  "disable the TPM",
	RequestActivate:                 "activate the TPM",
	RequestDeactivate:               "deactivate the TPM",
	RequestClear:                    "clear the TPM",
	RequestEnableActivate:           "enable and activate the TPM",
	RequestAllowOwner:               "let the TPM have an owner",
	RequestEnableActivateAllowOwner: "enable and activate the TPM and let it have an owner",
	RequestClearEnableActivate:      "clear the TPM, then enable and activate it",
	RequestEnableClearEnable:        "clear the TPM, then enable and activate it",
}

// Clears reports whether the request deletes keys.
func (r Request) Clears() bool {
	return r == RequestClear || r == RequestClearEnableActivate || r == RequestEnableClearEnable
}

func (r Request) String() string {
	if text, ok := requestTexts[r]; ok {
		return text
	}
	return fmt.Sprintf("do operation %d", int(r))
}

// A PPI is the physical presence interface of the machine's firmware, as the kernel shows
// it in /sys/class/tpm/tpm0/ppi.
type PPI struct {
	Version string  `json:"version,omitempty"`
	Pending Request `json:"pending,omitempty"` // for the next start; 0 for none
	Last    Request `json:"last,omitempty"`    // the request before the last start
	Answer  string  `json:"answer,omitempty"`  // its result: "0: Success", "0xFFFFFFF0: User Abort"

	dir      string
	shutdown bool // a restart is not enough
}

// readPPI reads the first of these directories that exists.
func readPPI(dirs ...string) *PPI {
	for _, dir := range dirs {
		if !exists(filepath.Join(dir, "request")) {
			continue
		}
		p := &PPI{dir: dir, Version: attribute(dir, "version")}
		pending, _, _ := strings.Cut(attribute(dir, "request"), " ") // a parameter may follow
		if n, err := strconv.Atoi(pending); err == nil {
			p.Pending = Request(n)
		}
		last, answer, _ := strings.Cut(attribute(dir, "response"), " ")
		if n, err := strconv.Atoi(last); err == nil && n != 0 {
			p.Last, p.Answer = Request(n), answer
		}
		p.shutdown = strings.HasPrefix(attribute(dir, "transition_action"), "1:")
		return p
	}
	return nil
}

// Refused reports whether the firmware, or the person in front of it, refused the last
// request.
func (p *PPI) Refused() bool { return p.Last != 0 && !strings.HasPrefix(p.Answer, "0:") }

// Restart says how to restart the machine for a request.
func (p *PPI) Restart() string {
	if p.shutdown {
		return "switch the machine off and on"
	}
	return "restart the machine"
}

// Withdrawal returns the command that cancels a request before the next start: operation 0.
// Linux, Documentation/ABI/testing/sysfs-driver-ppi.
func (p *PPI) Withdrawal() string { return "echo 0 > " + filepath.Join(p.dir, "request") }

// ErrPermission: this user may not do that.
var ErrPermission = errors.New("no permission")

// Ask makes the first of these requests that the firmware accepts, and returns it. It
// replaces the Pending request. If the firmware accepts none, the error is the last
// refusal. ErrPermission says that this user may not make requests.
func (p *PPI) Ask(requests ...Request) (Request, error) {
	path := filepath.Join(p.dir, "request")
	var err error
	for _, r := range requests {
		if err = ask(path, r); err == nil {
			p.Pending = r
			return r, nil
		}
		if errors.Is(err, fs.ErrPermission) && os.Geteuid() != 0 {
			return 0, fmt.Errorf("ask the firmware %s: %w: run this as root: %w", path, ErrPermission, err)
		}
	}
	var refused *fs.PathError
	if errors.As(err, &refused) {
		err = refused.Err
	}
	return 0, fmt.Errorf("the firmware takes no request for it (%s: %w)", path, err)
}

// ask writes a request and reads it back. The kernel returns the firmware's answer, but
// some firmware accepts everything.
func ask(path string, r Request) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(strconv.Itoa(int(r)))
	if closed := f.Close(); err == nil {
		err = closed
	}
	if err != nil {
		return err
	}
	if now := readAttribute(path); now != strconv.Itoa(int(r)) {
		return fmt.Errorf("request %d was not kept: it reads %q", int(r), now)
	}
	return nil
}
