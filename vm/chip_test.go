//go:build linux

package vm_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

// A chip is the software TPM of a running machine: swtpm over the directory that holds the
// TPM's state. It ends with the machine.
type chip struct {
	control string // socket for QEMU
	cmd     *exec.Cmd
	proxy   *chipProxy // nil if the chip has no quirks
}

// makeChip creates the state of a new chip. It has an endorsement key, as delivered chips
// have, and nothing else.
func makeChip(dir, version string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	args := []string{"--tpmstate", dir, "--createek", "--overwrite"}
	if version == "2.0" {
		args = append(args, "--tpm2")
	}
	if out, err := exec.Command("swtpm_setup", args...).CombinedOutput(); err != nil {
		return fmt.Errorf("swtpm_setup: %w\n%s", err, out)
	}
	return os.WriteFile(filepath.Join(dir, "version"), []byte(version), 0o600)
}

// startChip starts the chip with the state in dir, an absolute path.
func startChip(ctx context.Context, dir string, wrong quirks) (*chip, error) {
	version, err := os.ReadFile(filepath.Join(dir, "version"))
	if err != nil {
		return nil, err
	}
	c := &chip{control: filepath.Join(dir, "control")}
	os.Remove(c.control)
	args := []string{"socket", "--tpmstate", "dir=" + dir, "--ctrl", "type=unixio,path=" + c.control, "--terminate"}
	if string(version) == "2.0" {
		args = append(args, "--tpm2")
	}
	c.cmd = childCommand(ctx, "swtpm", args...)
	c.cmd.Stderr = os.Stderr
	if err := c.cmd.Start(); err != nil {
		return nil, err
	}
	for range 200 {
		if _, err := os.Stat(c.control); err == nil {
			if wrong == (quirks{}) {
				return c, nil
			}
			if err := c.addProxy(filepath.Join(dir, "proxy"), wrong); err != nil {
				c.cmd.Process.Kill()
				c.stop()
				return nil, err
			}
			return c, nil
		}
		time.Sleep(10 * time.Millisecond)
	}
	c.cmd.Process.Kill()
	c.stop()
	return nil, fmt.Errorf("swtpm does not start over %s", dir)
}

func (c *chip) addProxy(control string, wrong quirks) (err error) {
	c.proxy, err = newChipProxy(control, c.control, wrong)
	c.control = control
	return err
}

// stop waits until the chip ends with the machine, so that swtpm can write its state.
func (c *chip) stop() {
	timer := time.AfterFunc(5*time.Second, func() { c.cmd.Process.Kill() })
	c.cmd.Wait()
	timer.Stop()
	if c.proxy != nil {
		c.proxy.close()
	}
}
