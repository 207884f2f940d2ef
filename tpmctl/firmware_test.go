package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"maclef/internal/cli"
	"maclef/internal/sysfs"
	"maclef/internal/transport"
	"maclef/tpmkey"
)

// fakeMachine is a system with one TPM 1.2, whose kernel has these attributes.
func fakeMachine(t *testing.T, attributes map[string]string) sysfs.Kernel {
	t.Helper()
	k := sysfs.Kernel{Root: t.TempDir()}
	for name, text := range attributes {
		path := filepath.Join(k.Root, "sys/class/tpm/tpm0", name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return k
}

var errLocked = fmt.Errorf("enable the TPM: %w (locked since the last start)", tpmkey.ErrPhysicalPresence)

func hint(err error) string {
	var hinted interface{ Hint() string }
	if errors.As(err, &hinted) {
		return hinted.Hint()
	}
	return ""
}

// These are the exact texts for an administrator, for each kind of firmware.
func TestAskFirmware(t *testing.T) {
	for name, c := range map[string]struct {
		attributes map[string]string
		text, hint string
		pending    string
	}{
		"can be asked": {
			map[string]string{"ppi/request": "0\n", "ppi/response": "0: No Recent Request\n", "ppi/transition_action": "2: Reboot\n"},
			errLocked.Error() + "; asked the firmware to enable and activate the TPM at the next start",
			"restart the machine, confirm if the firmware asks, then run tpmctl own again", "6",
		},
		"was asked": {
			map[string]string{"ppi/request": "6\n"},
			errLocked.Error() + "; the firmware has been asked to enable and activate the TPM already, at the next start",
			"restart the machine, confirm if the firmware asks, then run tpmctl own again", "6",
		},
		"said no": {
			map[string]string{"ppi/request": "0\n", "ppi/response": "6 0xFFFFFFF0: User Abort\n", "ppi/transition_action": "1: Shutdown\n"},
			errLocked.Error() + `; asked the firmware to enable and activate the TPM at the next start (it was asked before the last start, and its answer was "0xFFFFFFF0: User Abort")`,
			"switch the machine off and on, confirm if the firmware asks, then run tpmctl own again", "6",
		},
		"cannot be asked": {
			map[string]string{"dev": ""}, errLocked.Error(),
			"restart the machine, enter the firmware's (BIOS) setup (a key such as F1, F2, F10, Del or Esc at the start), look under Security for TPM, " +
				"Security Chip or Trusted Computing, and enable and activate the TPM there; save, then run tpmctl own again", "",
		},
	} {
		t.Run(name, func(t *testing.T) {
			k := fakeMachine(t, c.attributes)
			err := askNode(k.Nodes()[0], errLocked, "tpmctl own", sysfs.RequestEnableActivate, sysfs.RequestEnable)
			if err == nil || err.Error() != c.text || hint(err) != c.hint || !errors.Is(err, tpmkey.ErrPhysicalPresence) {
				t.Errorf("error %v\nhint %s", err, hint(err))
			}
			if now, _ := os.ReadFile(filepath.Join(k.Root, "sys/class/tpm/tpm0/ppi/request")); strings.TrimSpace(string(now)) != c.pending {
				t.Errorf("the request is %q", now)
			}
		})
	}
}

// Keys are lost by it, so how to take it back is said, and what it takes the place
// of.
func TestAskFirmwareToClear(t *testing.T) {
	k := fakeMachine(t, map[string]string{"ppi/request": "6\n"})
	request := filepath.Join(k.Root, "sys/class/tpm/tpm0/ppi/request")
	ask := func() error {
		return askNode(k.Nodes()[0], errLocked, "tpmctl own", sysfs.RequestEnableClearEnable, sysfs.RequestClear)
	}
	err := ask()
	if want := "; asked the firmware to clear the TPM, then enable and activate it at the next start, in place of what it had been asked already, to enable and activate the TPM"; err == nil ||
		!strings.HasSuffix(err.Error(), want) {
		t.Error(err)
	}
	withdraw := "; before that, this withdraws it: echo 0 > " + request
	if !strings.HasSuffix(hint(err), withdraw) {
		t.Error(hint(err))
	}
	if err := ask(); err == nil || !strings.Contains(err.Error(), "asked to clear the TPM, then enable and activate it already") || !strings.HasSuffix(hint(err), withdraw) {
		t.Errorf("%v\n%s", err, hint(err))
	}
}

// Firmware that refuses every request leaves its menu.
func TestAskFirmwareInVain(t *testing.T) {
	k := fakeMachine(t, map[string]string{"ppi/version": "1.0"})
	if err := os.Symlink("/dev/full", filepath.Join(k.Root, "sys/class/tpm/tpm0/ppi/request")); err != nil {
		t.Fatal(err)
	}
	err := askNode(k.Nodes()[0], errLocked, "tpmctl own", sysfs.RequestEnable)
	if err == nil || !strings.Contains(err.Error(), "the firmware takes no request for it (") || !strings.Contains(hint(err), "(BIOS) setup") {
		t.Errorf("error %v\nhint %s", err, hint(err))
	}
}

func TestOwnRequests(t *testing.T) {
	for want, s := range map[string]*tpmkey.Status{
		"[6 6 1]":  {CanBeOwned: true},
		"[6 6 3]":  {CanBeOwned: true, Enabled: true},
		"[10 6 1]": {},
		"[10 8]":   {Enabled: true, Active: true},
		"[10 6 3]": {Enabled: true},
	} {
		var got []int
		for _, r := range ownRequests(s) {
			got = append(got, int(r))
		}
		if fmt.Sprint(got) != want {
			t.Errorf("%+v: %v, want %s", s, got, want)
		}
	}
}

// A device that cannot be opened: what the kernel tells, and the error.
func TestStatusOfABusyDevice(t *testing.T) {
	k := fakeMachine(t, map[string]string{
		"tpm_version_major": "1\n", "device/caps": "Manufacturer: 0x49465800\nTCG version: 1.2\nFirmware version: 3.17\n",
		"device/enabled": "1\n", "device/active": "0\n", "device/owned": "0\n", "device/firmware_node/hid": "IFX0102\n",
		"ppi/request": "6\n", "../tpm1/tpm_version_major": "2\n",
	})
	fd := filepath.Join(k.Root, "proc/77/fd")
	if err := errors.Join(os.MkdirAll(fd, 0o755), os.Symlink("/dev/tpm0", fd+"/3"), os.WriteFile(k.Root+"/proc/77/comm", []byte("tcsd\n"), 0o600)); err != nil {
		t.Fatal(err)
	}
	t.Setenv(transport.EnvName, "")
	env := cli.NewEnv("tpmctl", nil, new(bytes.Buffer), new(bytes.Buffer))
	r, err := readReport(env, k, &cli.TPMFlag{Name: "/dev/tpm0", Wait: time.Second}) // there is none here
	if err == nil || r == nil {
		t.Fatal(r, err)
	}
	var text bytes.Buffer
	if err := printRows(&text, r.rows()); err != nil {
		t.Fatal(err)
	}
	want := `device:             /dev/tpm0
driver:             IFX0102
asked of firmware:  enable and activate the TPM, at the next start; to withdraw it: echo 0 > ` + k.Root + `/sys/class/tpm/tpm0/ppi/request
held by:            tcsd (process 77)
family:             TPM 1.2
vendor:             IFX, Infineon
firmware:           3.17
enabled:            yes
active:             no: tpmctl activate, or the firmware's (BIOS) menu, and restart
owned:              no: take ownership: tpmctl own
another TPM:        /dev/tpm1, TPM 2.0; see tpmctl status -tpm /dev/tpm1
`
	if text.String() != want {
		t.Errorf("%s\nwant:\n%s", text.String(), want)
	}
	out, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range []string{`"usable":false,"error":"open TPM /dev/tpm0: `, `"vendor_name":"Infineon"`, `"pending":6`, `"others":[{"device":"/dev/tpm1"`} {
		if !strings.Contains(string(out), part) {
			t.Errorf("%s does not have %s", out, part)
		}
	}
}
