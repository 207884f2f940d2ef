package main

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"

	"golang.org/x/sys/unix"

	"maclef/internal/cli"
)

// readRecord reads the record of a name in a directory, and returns nil where
// there is none yet. It trusts one that belongs to root or the owner of what it
// is the record of, and that nobody else can write to.
func readRecord(dir *directory, name string, owner int) (*record, error) {
	full := path.Join(dir.path, name)
	fd, err := unix.Openat(dir.fd, name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil
	case errors.Is(err, unix.ELOOP):
		return nil, distrust(full, "it is a symbolic link")
	case err != nil:
		return nil, fmt.Errorf("read %s: %w", full, err)
	}
	file := os.NewFile(uintptr(fd), full)
	defer file.Close()
	if err := checkTrust(fd, full, owner); err != nil {
		return nil, err
	}
	data, err := io.ReadAll(io.LimitReader(file, recordLimit+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", full, withoutPath(err))
	}
	r, err := parseRecord(data)
	if err != nil {
		return nil, cli.WithHint(fmt.Errorf("read %s: %w", full, err), "put a copy of it back; without it, the names of the files are lost")
	}
	return r, nil
}

// checkTrust refuses what somebody else may have put there.
func checkTrust(fd int, name string, owner int) error {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return fmt.Errorf("read %s: %w", name, err)
	}
	switch {
	case st.Mode&unix.S_IFMT != unix.S_IFREG:
		return distrust(name, "it is not a file")
	case st.Uid != 0 && int(st.Uid) != owner:
		return distrust(name, "it belongs to "+userName(int(st.Uid)))
	case st.Mode&0o022 != 0:
		return distrust(name, fmt.Sprintf("others than its owner can write to it (mode %#o)", st.Mode&0o7777))
	}
	return nil
}

// distrust is the error for a record that somebody else may have put there.
func distrust(name, why string) error {
	return cli.WithHint(fmt.Errorf("%s may not be the record that ecryptmount made: %s", name, why),
		"look at it; if it is yours, make it a file of root's: chown root and chmod 600; if not, remove it, and put a copy of yours back")
}

// writeRecord keeps a new record, whole or not at all, and never in the place of
// anything else.
func writeRecord(dir *directory, name string, r *record) error {
	full := path.Join(dir.path, name)
	data, err := json.MarshalIndent(r, "", "  ")
	if err == nil {
		err = writeNew(dir, name, append(data, '\n'))
	}
	switch {
	case errors.Is(err, fs.ErrExist):
		return cli.WithHint(fmt.Errorf("write %s: something of that name appeared meanwhile", full), "look at it; if it is not yours, remove it")
	case errors.Is(err, unix.EROFS):
		return cli.WithHint(fmt.Errorf("write %s, which a first mount does: %w", full, err), "mount it once where that can be written")
	case err != nil:
		return fmt.Errorf("write %s, which a first mount does: %w", full, err)
	}
	return nil
}

// writeNew makes a file. Until it is complete it has another name.
func writeNew(dir *directory, name string, data []byte) (err error) {
	var random [8]byte
	if _, err := rand.Read(random[:]); err != nil {
		return err
	}
	temp := ".tmp-" + hex.EncodeToString(random[:])
	fd, err := unix.Openat(dir.fd, temp, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return err
	}
	file := os.NewFile(uintptr(fd), temp)
	defer file.Close()
	renamed := false
	defer func() {
		if !renamed {
			_ = unix.Unlinkat(dir.fd, temp, 0)
		}
	}()
	if _, err := file.Write(data); err != nil {
		return withoutPath(err)
	}
	if err := file.Sync(); err != nil {
		return withoutPath(err)
	}
	// The file of this descriptor, and not what bears its name by now.
	err = unix.Linkat(unix.AT_FDCWD, descriptorPath(fd), dir.fd, name, unix.AT_SYMLINK_FOLLOW)
	if err != nil && !errors.Is(err, fs.ErrExist) { // a file system without hard links
		err = unix.Renameat2(dir.fd, temp, dir.fd, name, unix.RENAME_NOREPLACE)
		renamed = err == nil
	}
	if err != nil {
		return err
	}
	if err := syncHeld(dir); err != nil {
		_ = unix.Unlinkat(dir.fd, name, 0)
		return err
	}
	return nil
}

// syncHeld makes new names in a directory durable where its file system can.
func syncHeld(dir *directory) error {
	fd, err := unix.Openat(dir.fd, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := unix.Fsync(fd); err != nil && !errors.Is(err, unix.EINVAL) {
		return err
	}
	return nil
}
