package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"maclef/internal/cli"
	"maclef/internal/sysfs"
	"maclef/tpmkey"
)

// askFirmware adds a hint to err. If physical presence is missing, it asks the firmware to do the
// first of requests that it supports. It always returns an error, because the firmware acts at the
// next start. again is the command to run then.
func askFirmware(tpm *tpmkey.TPM, err error, again string, requests ...sysfs.Request) error {
	if !errors.Is(err, tpmkey.ErrPhysicalPresence) {
		return err
	}
	node := sysfs.Kernel{}.Node(tpm.Name())
	if node == nil { // a software TPM has no firmware
		return cli.WithHint(err, restartHint(tpm, again))
	}
	return askNode(node, err, again, requests...)
}

func askNode(node *sysfs.Node, err error, again string, requests ...sysfs.Request) error {
	p := node.PPI
	if p == nil {
		return cli.WithHint(err, menuHint(requests[0], again))
	}
	restart := func(asked sysfs.Request) string {
		hint := p.Restart() + ", confirm if the firmware asks, then run " + again + " again"
		if asked.Clears() {
			hint += "; before that, this withdraws it: " + p.Withdrawal()
		}
		return hint
	}
	if slices.Contains(requests, p.Pending) {
		return cli.WithHint(fmt.Errorf("%w; the firmware has been asked to %v already, at the next start", err, p.Pending), restart(p.Pending))
	}
	before := ""
	if p.Refused() && slices.Contains(requests, p.Last) {
		before = fmt.Sprintf(" (it was asked before the last start, and its answer was %q)", p.Answer)
	}
	if p.Pending != 0 {
		before += fmt.Sprintf(", in place of what it had been asked already, to %v", p.Pending)
	}
	asked, refused := p.Ask(requests...)
	switch {
	case refused == nil:
		return cli.WithHint(fmt.Errorf("%w; asked the firmware to %v at the next start%s", err, asked, before), restart(asked))
	case errors.Is(refused, tpmkey.ErrPermission):
		return cli.WithHint(fmt.Errorf("%w; %w", err, refused), "run this as root, then the firmware can be asked")
	}
	return cli.WithHint(fmt.Errorf("%w; %w", err, refused), menuHint(requests[0], again))
}

// menuHint says what to do in the firmware's menu, if a program cannot do it.
func menuHint(request sysfs.Request, again string) string {
	return fmt.Sprintf("restart the machine, enter the firmware's (BIOS) setup (a key such as F1, F2, F10, Del or Esc at the start), look under "+
		"Security for TPM, Security Chip or Trusted Computing, and %v there; save, then run %s again", request, again)
}

// restartHint says how to restart this TPM, and what to run afterwards.
func restartHint(tpm *tpmkey.TPM, again string) string {
	return restartText(tpm.Name(), tpm.Emulator()) + ", then run " + again + " again"
}

func restartText(name string, emulator bool) string {
	switch {
	case emulator:
		return "wait until no other program uses the software TPM, which restarts it"
	case strings.HasPrefix(name, "unix:"), strings.HasPrefix(name, "tcp:"):
		return "restart swtpm"
	}
	return "restart the machine"
}
