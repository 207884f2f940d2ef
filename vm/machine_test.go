//go:build linux

package vm_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// A lab is where the machines of one scenario live: their chips and disks, by
// name, in a directory of its own.
type lab struct {
	dir    string
	kernel string // what fetch-kernel prints
	image  string // the initial file system, without the script
	// complaints are printed here.
	complaints io.Writer
}

// machineLife is how long a machine may live where its step does not say.
const machineLife = 3 * time.Minute

// run runs a step; show is called with what its commands print, as they do.
func (l *lab) run(ctx context.Context, s *step, show func(*chunk, string)) error {
	life := machineLife
	if text, ok := s.options["for"]; ok {
		var err error
		if life, err = time.ParseDuration(text); err != nil {
			return fmt.Errorf("line %d: for=%s: %w", s.line, text, err)
		}
	}
	ctx, cancel := context.WithTimeoutCause(ctx, life, fmt.Errorf("not done after %v", life))
	defer cancel()
	err := l.live(ctx, s, show)
	if born := (*stillbirth)(nil); errors.As(err, &born) {
		// Seen once, on a busy computer; why is not known.
		fmt.Fprintf(l.complaints, "---- %v\n---- trying once more\n", err)
		err = l.live(ctx, s, show)
	}
	if err != nil && ctx.Err() != nil {
		err = fmt.Errorf("line %d: %w", s.line, context.Cause(ctx))
	}
	return err
}

// live starts the machine of a step and waits for its end.
func (l *lab) live(ctx context.Context, s *step, show func(*chunk, string)) error {
	args := []string{
		"-accel", "tcg", "-cpu", "max", "-m", "768", "-smp", "2", "-nographic", "-nodefaults", "-monitor", "none", "-no-reboot",
		"-serial", "stdio",
	}
	if chip, err := l.plugChip(ctx, s); err != nil {
		return err
	} else if chip != nil {
		defer chip.stop()
		args = append(args, "-chardev", "socket,id=chip,path="+chip.control,
			"-tpmdev", "emulator,id=tpm0,chardev=chip", "-device", "tpm-"+s.options["bus"]+",tpmdev=tpm0")
	}
	if s.firmware {
		return visitFirmware(ctx, append(args, "-boot", "menu=on"), s, show)
	}
	disk, err := l.disk(s.options["disk"])
	if err != nil {
		return err
	}
	script, err := l.withScript(s)
	if err != nil {
		return err
	}
	verdict := filepath.Join(l.dir, "verdict")
	args = append(args, "-serial", "file:"+verdict,
		"-kernel", filepath.Join(l.kernel, "vmlinuz"), "-initrd", script,
		"-append", "console=ttyS0 quiet loglevel=1 panic=-1 random.trust_cpu=on",
		"-drive", "file="+disk+",if=virtio,format=raw")
	return boot(ctx, args, verdict, s, show)
}

// A stillbirth is a machine that ended before its script began.
type stillbirth struct {
	line   int
	before string // what it wrote
}

func (s *stillbirth) Error() string {
	return fmt.Sprintf("line %d: the machine ended before its script began; it wrote%s", s.line, s.before)
}

func boot(ctx context.Context, args []string, verdict string, s *step, show func(*chunk, string)) error {
	cmd := childCommand(ctx, "qemu-system-x86_64", args...)
	var complaints strings.Builder
	cmd.Stderr = &complaints
	console, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	before, err := readConsole(console, s, show)
	if err != nil {
		cmd.Process.Kill()
		cmd.Wait()
		return err
	}
	if err := cmd.Wait(); err != nil {
		return fmt.Errorf("qemu: %w\n%s", err, complaints.String())
	}
	said, err := os.ReadFile(verdict)
	if err != nil {
		return err
	}
	switch text := strings.TrimSpace(string(said)); text {
	case "all done":
		return nil
	case "":
		if before != "" {
			return &stillbirth{s.line, before}
		}
		return fmt.Errorf("line %d: the machine ended before its script did", s.line)
	default:
		return errors.New(text)
	}
}

func (l *lab) plugChip(ctx context.Context, s *step) (*chip, error) {
	name := s.options["chip"]
	if name == "none" {
		return nil, nil
	}
	wrong := quirks{unstarted: s.options["wake"] == "unstarted"}
	if text := s.options["slow"]; text != "" {
		var err error
		if wrong.delay, err = time.ParseDuration(text); err != nil {
			return nil, err
		}
	}
	dir := filepath.Join(l.dir, "chip-"+name)
	if _, err := os.Stat(dir); err != nil {
		if err := makeChip(dir, s.options["tpm"]); err != nil {
			return nil, err
		}
	}
	return startChip(ctx, dir, wrong)
}

// disk returns the image of a disk, which is made on first use.
func (l *lab) disk(name string) (string, error) {
	path := filepath.Join(l.dir, "disk-"+name)
	if _, err := os.Stat(path); err == nil {
		return path, nil
	}
	out, err := exec.Command("mke2fs", "-q", "-t", "ext4", "-E", "root_owner=0:0", path, "128M").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("mke2fs: %w\n%s", err, out)
	}
	return path, nil
}

// withScript returns an initial file system with the script of a step: the
// kernel takes several archives, one behind the other.
func (l *lab) withScript(s *step) (string, error) {
	path := filepath.Join(l.dir, "initrd")
	out, err := os.Create(path)
	if err != nil {
		return "", err
	}
	defer out.Close()
	in, err := os.Open(l.image)
	if err != nil {
		return "", err
	}
	defer in.Close()
	if _, err := io.Copy(out, in); err != nil {
		return "", err
	}
	if err := writeScript(out, guestScript(s)); err != nil {
		return "", err
	}
	return path, out.Close()
}

// childCommand is a command that does not outlive this program, however that ends.
func childCommand(ctx context.Context, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return cmd
}
