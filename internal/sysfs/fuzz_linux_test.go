package sysfs

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"unicode"
)

// FuzzKernel: what /sys and /proc say is read, or left out, and nothing that a
// terminal obeys comes through.
func FuzzKernel(f *testing.F) {
	f.Add("tpm0", "Manufacturer: 0x49465800\nTCG version: 1.2\nFirmware version: 3.17\n")
	f.Add("/dev/tpmrm0", "Manufacturer: 0xzz\nnonsense\n")
	f.Add("mytpm", "6 0xFFFFFFF0: User Abort\n")
	f.Add("tpm99999999999999999999", "-1 \x1b]0;x\x07")
	f.Add("tpm/../tpm0", "99999999999999999999 \x1b[31m\n")
	k := Kernel{Root: f.TempDir()}
	var said []*os.File // files that say anything
	for _, name := range []string{"sys/class/tpm/tpm0/device/caps", "sys/class/tpm/tpm0/ppi/response", "sys/class/tpm/tpm0/ppi/request", "proc/77/comm", "proc/77/fd/4", "dev/tpm0"} {
		path := filepath.Join(k.Root, name)
		err := os.MkdirAll(filepath.Dir(path), 0o755)
		if err != nil {
			f.Fatal(err)
		}
		file, err := os.Create(path)
		if err != nil {
			f.Fatal(err)
		}
		f.Cleanup(func() { file.Close() })
		said = append(said, file)
	}
	if err := os.Symlink("/dev/tpm0", filepath.Join(k.Root, "proc/77/fd/3")); err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, name, text string) {
		for _, file := range said[:4] {
			_, err := file.WriteAt([]byte(text), 0)
			if err := errors.Join(err, file.Truncate(int64(len(text)))); err != nil {
				t.Fatal(err)
			}
		}
		n := k.node("tpm0")
		if len(n.HeldBy) != 1 || n.HeldBy[0].PID != 77 || n.PPI == nil {
			t.Fatalf("%+v", n)
		}
		for _, shown := range []string{n.HeldBy[0].Name, n.State().Vendor} {
			for _, r := range shown {
				if !unicode.IsPrint(r) {
					t.Errorf("%q has %U", shown, r)
				}
			}
		}
		n.PPI.Refused()
		if n := k.nodeByPath(name); n != nil && n.Device != "/dev/tpm0" {
			t.Errorf("%q is %+v", name, n)
		}
	})
}
