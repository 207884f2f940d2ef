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

// A workspace is the directory of one scenario, with the chips and disks of its machines.
type workspace struct {
	dir string
	files
	log io.Writer
}

// files are paths of what all machines share.
type files struct {
	kernel   string // directory that fetch-kernel prints
	image    string // initial file system, without the script
	programs string // disk with the programs
}

// run runs a step. It calls show with the output of its commands as it comes.
func (l *workspace) run(ctx context.Context, s *step, show func(*chunk, string)) error {
	ctx, cancel := context.WithTimeoutCause(ctx, s.limit, fmt.Errorf("not done after %v", s.limit))
	defer cancel()
	err := l.runMachine(ctx, s, show)
	if failed := (*bootError)(nil); errors.As(err, &failed) {
		// This happened once on a busy computer; the reason is unknown.
		fmt.Fprintf(l.log, "---- %v\n---- trying once more\n", err)
		err = l.runMachine(ctx, s, show)
	}
	if err != nil && ctx.Err() != nil {
		err = fmt.Errorf("line %d: %w", s.line, context.Cause(ctx))
	}
	return err
}

// commandLine is the kernel's.
const commandLine = "console=ttyS0 quiet loglevel=1 panic=-1 random.trust_cpu=on tsc=reliable mitigations=off nowatchdog apparmor=0 audit=0 cryptomgr.notests"

// initrdAddress is where the initial file system is in the memory of a machine that boots an ELF
// file, in MiB: above the kernel. QEMU's -initrd would put it over the ACPI tables of a TPM.
const initrdAddress = 128

// kernelArgs returns QEMU's arguments for the kernel and the initial file system. The ELF file boots
// faster, but QEMU writes it into the memory again when a machine wakes up. The kernel does not
// reserve the memory of initrdmem itself.
func (l *workspace) kernelArgs(s *step, initrd string) ([]string, error) {
	if s.sleeps() {
		return []string{"-kernel", filepath.Join(l.kernel, "vmlinuz"), "-initrd", initrd, "-append", commandLine}, nil
	}
	info, err := os.Stat(initrd)
	if err != nil {
		return nil, err
	}
	memory := fmt.Sprintf(" initrdmem=%#x,%d memmap=%dM$%dM", initrdAddress<<20, info.Size(), info.Size()>>20+1, initrdAddress)
	return []string{"-kernel", filepath.Join(l.kernel, "kernel"), "-append", commandLine + memory,
		"-device", fmt.Sprintf("loader,file=%s,addr=%#x,force-raw=on", initrd, initrdAddress<<20)}, nil
}

// runMachine starts the machine of a step and waits for its end.
func (l *workspace) runMachine(ctx context.Context, s *step, show func(*chunk, string)) error {
	args := []string{
		"-accel", "tcg", "-cpu", "max", "-m", "768", "-smp", "1", "-nographic", "-nodefaults", "-monitor", "none", "-no-reboot",
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
	kernel, err := l.kernelArgs(s, script)
	if err != nil {
		return err
	}
	resultFile := filepath.Join(l.dir, "resultFile")
	args = append(append(args, kernel...), "-serial", "file:"+resultFile, "-drive", "file="+disk+",if=virtio,format=raw",
		"-drive", "file="+l.programs+",if=virtio,format=raw,readonly=on")
	return boot(ctx, args, resultFile, s, show)
}

// A bootError says that a machine ended before its script began.
type bootError struct {
	line   int
	before string // output of the machine
}

func (s *bootError) Error() string {
	return fmt.Sprintf("line %d: the machine ended before its script began; it wrote%s", s.line, s.before)
}

func boot(ctx context.Context, args []string, resultFile string, s *step, show func(*chunk, string)) error {
	cmd := childCommand(ctx, "qemu-system-x86_64", args...)
	var qemuErrors strings.Builder
	cmd.Stderr = &qemuErrors
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
		return fmt.Errorf("qemu: %w\n%s", err, qemuErrors.String())
	}
	said, err := os.ReadFile(resultFile)
	if err != nil {
		return err
	}
	switch text := strings.TrimSpace(string(said)); text {
	case "all done":
		return nil
	case "":
		if before != "" {
			return &bootError{s.line, before}
		}
		return fmt.Errorf("line %d: the machine ended before its script did", s.line)
	default:
		return errors.New(text)
	}
}

func (l *workspace) plugChip(ctx context.Context, s *step) (*chip, error) {
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

// disk returns the image of a disk. It makes the image on first use.
func (l *workspace) disk(name string) (string, error) {
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

// withScript returns the initial file system with the script of a step. The kernel accepts
// several archives one after the other.
func (l *workspace) withScript(s *step) (string, error) {
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

// childCommand returns a command that ends when this program ends for any reason.
func childCommand(ctx context.Context, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return cmd
}
