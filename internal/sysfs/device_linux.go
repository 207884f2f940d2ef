package sysfs

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"
)

// DeviceClass returns the kernel's class of a character device ("tpm", "tty", "mem"); empty
// if /sys does not know it.
func DeviceClass(info fs.FileInfo) string {
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return ""
	}
	link, err := os.Readlink("/sys/dev/char/" + formatNumber(stat) + "/subsystem")
	if err != nil {
		return ""
	}
	return filepath.Base(link)
}

// formatNumber formats a device number as the kernel does: "10:224".
func formatNumber(stat *syscall.Stat_t) string {
	rdev := uint64(stat.Rdev)
	return fmt.Sprintf("%d:%d", unix.Major(rdev), unix.Minor(rdev))
}

// deviceNumber returns the number of a character device; empty for other files.
func deviceNumber(path string) string {
	info, err := os.Stat(path)
	if err != nil || info.Mode()&fs.ModeCharDevice == 0 {
		return ""
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return ""
	}
	return formatNumber(stat)
}
