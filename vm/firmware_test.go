//go:build linux

package vm_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
)

// Texts that the firmware (SeaBIOS) shows before it waits for a key.
const (
	bootPrompt = "Press ESC for boot menu"
	bootMenu   = "t. TPM Configuration"
	tpmMenu    = "reboot the machine."
)

// visitFirmware opens the TPM menu of the firmware, presses the keys of the step, and
// leaves with ESC. The firmware then restarts the machine, which ends QEMU.
func visitFirmware(ctx context.Context, args []string, s *step, show func(*chunk, string)) error {
	cmd := childCommand(ctx, "qemu-system-x86_64", args...)
	keyboard, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	screen, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	defer cmd.Wait()
	defer cmd.Process.Kill()

	const escape = "\x1b"
	prompts, keys := []string{bootPrompt, bootMenu}, escape+"t"+s.options["keys"]+escape
	menu := menuChunk(s)
	for i, key := range keys {
		prompt := tpmMenu
		if i < len(prompts) {
			prompt = prompts[i]
		}
		text, err := readUntil(screen, prompt)
		if errors.Is(err, io.EOF) && i > len(prompts) {
			return ctx.Err() // some keys restart the machine
		}
		if err != nil {
			return fmt.Errorf("line %d: the firmware does not show %q: %w\n%s", s.line, prompt, err, text)
		}
		if at := strings.Index(text, "The current state"); at >= 0 && menu != nil {
			menu.output += text[at:] + "\n"
			show(menu, text[at:]+"\n")
		}
		time.Sleep(300 * time.Millisecond) // the firmware ignores keys that come too early
		if _, err := io.WriteString(keyboard, string(key)); err != nil {
			return err
		}
	}
	if _, err = io.Copy(io.Discard, screen); err == nil {
		err = ctx.Err() // the context may have ended the machine
	}
	return err
}

// menuChunk returns the chunk that shows the visit in a transcript.
func menuChunk(s *step) *chunk {
	for _, c := range s.chunks {
		if c.kind == menu {
			return c
		}
	}
	return nil
}

// readUntil reads until text appears. It returns what it has read, without carriage
// returns.
func readUntil(r io.Reader, text string) (string, error) {
	var seen []byte
	buf := make([]byte, 256)
	for !bytes.Contains(seen, []byte(text)) {
		n, err := r.Read(buf)
		if err != nil {
			return string(seen), err
		}
		seen = append(seen, buf[:n]...)
	}
	return strings.ReplaceAll(string(seen), "\r", ""), nil
}
