package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"maclef/internal/sysfs"
	"maclef/tpmkey"
)

// Control characters from the kernel, programs and chips do not reach the terminal. JSON
// escapes them, and means the same.
func TestStatusIsHarmless(t *testing.T) {
	const evil = "a\x1b[2J\u009b\u202e\x07\U000e0001\x7fé"
	r := &report{
		Name: evil, Family: "1.2", Vendor: evil, VendorName: evil, Model: evil, Firmware: evil, Error: evil,
		Kernel: &sysfs.Node{
			Device: evil, Manager: evil, Driver: evil, ID: evil, Description: evil,
			HeldBy: []sysfs.Process{{PID: 1, Name: evil}}, PPI: &sysfs.PPI{Last: 5, Answer: evil},
		},
		Others: []*sysfs.Node{{Device: evil, Driver: evil}},
	}
	var text, object bytes.Buffer
	if err := printRows(&text, r.rows()); err != nil {
		t.Fatal(err)
	}
	if err := printJSON(&object, r); err != nil {
		t.Fatal(err)
	}
	for _, out := range []string{text.String(), object.String()} {
		if strings.ContainsAny(out, "\x1b\u009b\u202e\x07\x7f\U000e0001") || !strings.Contains(out, "é") {
			t.Errorf("%q", out)
		}
	}
	var back report
	if err := json.Unmarshal(object.Bytes(), &back); err != nil || back.Model != evil || back.Kernel.Driver != evil {
		t.Errorf("%q, %v", back.Model, err)
	}
}

// The status of a bare device names the kernel's resource manager beside it.
func TestStatusOfBareDevice(t *testing.T) {
	const told = "/dev/tpmrm0; /dev/tpm0 is for machines on which nobody uses it: -tpm /dev/tpmrm0"
	k := fakeMachine(t, map[string]string{"tpm_version_major": "2\n"})
	for name, c := range map[string]struct {
		manager bool
		opened  string
		want    string
	}{
		"bare device":       {true, "/dev/tpm0", told},
		"its manager":       {true, "/dev/tpmrm0", "/dev/tpmrm0"},
		"without a manager": {false, "/dev/tpm0", ""},
	} {
		t.Run(name, func(t *testing.T) {
			dev := filepath.Join(k.Root, "dev")
			if err := errors.Join(os.RemoveAll(dev), os.Mkdir(dev, 0o755)); err != nil {
				t.Fatal(err)
			}
			if c.manager {
				if err := os.WriteFile(filepath.Join(dev, "tpmrm0"), nil, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			node := k.Node(c.opened)
			r := newReport(&tpmkey.Status{Name: c.opened, Family: "2.0"}, node, nil, nil)
			if got := rowOf(r.rows(), "resource manager"); got != c.want {
				t.Errorf("%q, want %q", got, c.want)
			}
			// Where it could not be opened, the kernel alone is asked.
			r = newReport(nil, node, nil, errLocked)
			if got := rowOf(r.rows(), "resource manager"); strings.Contains(got, "nobody uses") {
				t.Errorf("%q", got)
			}
		})
	}
}

// rowOf is how a row is, empty where it is missing.
func rowOf(rows []row, what string) string {
	for _, r := range rows {
		if r.what == what {
			return r.how
		}
	}
	return ""
}
