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

// A managedLink is the device of the kernel's resource manager for TPM 2.0. Every open file
// has its own objects and sessions, with its own handles; closing the file frees them.
// Linux, drivers/char/tpm/tpm2-space.c.
//
// It cannot notice a restart of the TPM. After one the kernel returns errors until the
// device is opened again, which loses what was loaded.
type managedLink struct{ node *nodeLink }

func (m *managedLink) shared() {}

// connect opens the device. What was loaded over an earlier open file is lost.
func (m *managedLink) connect(ctx context.Context) error { return m.node.connect(ctx) }
func (m *managedLink) disconnect()                       { m.node.disconnect() }
func (m *managedLink) close() error                      { return m.node.close() }
func (m *managedLink) stopWaiting()                      { m.node.stopWaiting() }

func (m *managedLink) exchange(cmd []byte, limit time.Duration) ([]byte, error) {
	rsp, err := m.node.exchange(cmd, limit)
	if errors.Is(err, syscall.ENOMEM) {
		return outOfMemory(cmd), nil
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

// outOfMemory makes the response of a TPM that has no free slot. The kernel has three slots
// for objects and three for sessions of an open file. It flushes the fourth one and returns
// ENOMEM.
func outOfMemory(cmd []byte) []byte {
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

// isManager reports whether a device is the resource manager: by its class in /sys, or by
// its name if there is no /sys.
func isManager(name string, info fs.FileInfo) bool {
	if class := sysfs.DeviceClass(info); class != "" {
		return class == "tpmrm"
	}
	if real, err := filepath.EvalSymlinks(name); err == nil {
		name = real
	}
	return managerName.MatchString(filepath.Base(name))
}
