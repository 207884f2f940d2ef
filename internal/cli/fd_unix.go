//go:build unix

package cli

import (
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// inheritedFile returns an open descriptor that the caller passed, and keeps it
// from the programs that this one starts.
func inheritedFile(fd int) (*os.File, error) {
	flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
	if err != nil {
		return nil, err
	}
	if flags&unix.O_ACCMODE == unix.O_WRONLY {
		return nil, unix.EBADF
	}
	unix.CloseOnExec(fd)
	return os.NewFile(uintptr(fd), "fd:"+strconv.Itoa(fd)), nil
}
