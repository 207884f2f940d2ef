package sysfs

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"
)

// DeviceClass is what the kernel calls a kind of character device ("tpm", "tty",
// "mem"), empty where /sys does not know it.
func DeviceClass(info fs.FileInfo) string {
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return ""
	}
	link, err := os.Readlink("/sys/dev/char/" + numberOf(stat) + "/subsystem")
	if err != nil {
		return ""
	}
	return filepath.Base(link)
}

// numberOf is a device's number as the kernel writes it: "10:224".
func numberOf(stat *syscall.Stat_t) string {
	rdev := uint64(stat.Rdev)
	return fmt.Sprintf("%d:%d", unix.Major(rdev), unix.Minor(rdev))
}

// deviceNumber is numberOf a character device, empty for anything else.
func deviceNumber(path string) string {
	info, err := os.Stat(path)
	if err != nil || info.Mode()&fs.ModeCharDevice == 0 {
		return ""
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return ""
	}
	return numberOf(stat)
}
