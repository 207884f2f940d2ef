package transport

import (
	"context"
	"encoding/binary"
	"errors"
	"io/fs"
	"path/filepath"
	"regexp"
	"syscall"
	"time"

	"maclef/internal/sysfs"
	"maclef/internal/transport/frame"
)

// A managedLink is the device of the kernel's resource manager for TPM 2.0. Every
// open file has objects and sessions of its own there, under numbers of its own;
// they end with it. Linux, drivers/char/tpm/tpm2-space.c.
//
// That the TPM was started anew cannot be seen; the kernel's errors afterwards are
// answered by opening the device anew, which loses what was loaded.
type managedLink struct{ node *nodeLink }

func (m *managedLink) shared() {}

// begin opens the device. What was loaded by an earlier file is lost.
func (m *managedLink) begin(ctx context.Context) error { return m.node.begin(ctx) }
func (m *managedLink) end()                            { m.node.end() }
func (m *managedLink) close() error                    { return m.node.close() }
func (m *managedLink) stopWaiting()                    { m.node.stopWaiting() }

func (m *managedLink) exchange(cmd []byte, limit time.Duration) ([]byte, error) {
	rsp, err := m.node.exchange(cmd, limit)
	if errors.Is(err, syscall.ENOMEM) {
		return noRoom(cmd), nil
	}
	return rsp, err
}

// Commands and codes of TPM 2.0: Part 2, sections 6.5.2 (TPM_CC) and 6.6.3 (TPM_RC).
const (
	ccContextLoad      = 0x161
	ccStartAuthSession = 0x176

	rcObjectMemory  = 0x902
	rcSessionMemory = 0x903
)

// noRoom is what a TPM says when it has no place left. The kernel, which has three
// for objects and three for sessions of an open file, flushes what was to have the
// fourth, and says ENOMEM.
func noRoom(cmd []byte) []byte {
	code := uint32(rcObjectMemory)
	switch binary.BigEndian.Uint32(cmd[6:]) {
	case ccStartAuthSession:
		code = rcSessionMemory
	case ccContextLoad: // sequence, handle
		if len(cmd) > 18 && (cmd[18] == 0x02 || cmd[18] == 0x03) {
			code = rcSessionMemory
		}
	}
	return binary.BigEndian.AppendUint32([]byte{0x80, 0x01, 0, 0, 0, frame.HeaderSize}, code)
}

var managerName = regexp.MustCompile(`^tpmrm[0-9]+$`)

// isManager tells the resource manager from the bare device: by the kernel's class of
// devices, or by its name where there is no /sys.
func isManager(name string, info fs.FileInfo) bool {
	if class := sysfs.DeviceClass(info); class != "" {
		return class == "tpmrm"
	}
	if real, err := filepath.EvalSymlinks(name); err == nil {
		name = real
	}
	return managerName.MatchString(filepath.Base(name))
}
