package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"

	"golang.org/x/sys/unix"

	"maclef/internal/cli"
	"maclef/internal/newfile"
)

// readSettingsFile reads the settings file called name in dir. It returns nil if there is none. The
// file must belong to root or owner, and nobody else may be able to write to it.
func readSettingsFile(dir *directory, name string, owner int) (*settingsFile, error) {
	full := path.Join(dir.path, name)
	fd, err := unix.Openat(dir.fd, name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil
	case errors.Is(err, unix.ELOOP):
		return nil, untrustedError(full, "it is a symbolic link")
	case err != nil:
		return nil, fmt.Errorf("read %s: %w", full, err)
	}
	file := os.NewFile(uintptr(fd), full)
	defer file.Close()
	if err := checkTrust(fd, full, owner); err != nil {
		return nil, err
	}
	data, err := io.ReadAll(io.LimitReader(file, maxSettingsFile+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", full, withoutPath(err))
	}
	r, err := parseSettingsFile(data)
	if err != nil {
		return nil, cli.WithHint(fmt.Errorf("read %s: %w", full, err), "restore a copy of it; without it the names of the files are lost")
	}
	return r, nil
}

// checkTrust refuses a file that somebody else may have written.
func checkTrust(fd int, name string, owner int) error {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return fmt.Errorf("read %s: %w", name, err)
	}
	switch {
	case st.Mode&unix.S_IFMT != unix.S_IFREG:
		return untrustedError(name, "it is not a file")
	case st.Uid != 0 && int(st.Uid) != owner:
		return untrustedError(name, "it belongs to "+userName(int(st.Uid)))
	case st.Mode&0o022 != 0:
		return untrustedError(name, fmt.Sprintf("others than its owner can write to it (mode %#o)", st.Mode&0o7777))
	}
	return nil
}

func untrustedError(name, why string) error {
	return cli.WithHint(fmt.Errorf("%s may not be the settings file that ecryptmount wrote: %s", name, why),
		"look at it: if it is yours, give it to root (chown root, chmod 600); if not, remove it and restore your copy")
}

// writeSettingsFile writes a new settings file. It never replaces a file.
func writeSettingsFile(dir *directory, name string, r *settingsFile) error {
	full := path.Join(dir.path, name)
	data, err := json.MarshalIndent(r, "", "  ")
	if err == nil {
		err = writeNew(dir, name, append(data, '\n'))
	}
	switch {
	case errors.Is(err, fs.ErrExist):
		return cli.WithHint(fmt.Errorf("write %s: something of that name appeared meanwhile", full), "look at it; if it is not yours, remove it")
	case errors.Is(err, unix.EROFS):
		return cli.WithHint(fmt.Errorf("write %s for the first mount: %w", full, err), "mount the directory once where this file can be written")
	case err != nil:
		return fmt.Errorf("write %s for the first mount: %w", full, err)
	}
	return nil
}

// writeNew makes a file.
func writeNew(dir *directory, name string, data []byte) error {
	folder := descriptorPath(dir.fd) + "/"
	file, err := newfile.Create(folder, 0o600)
	if err != nil {
		return withoutPath(err)
	}
	defer file.Discard()
	if _, err := file.Write(data); err != nil {
		return withoutPath(err)
	}
	if err := file.Sync(); err != nil {
		return withoutPath(err)
	}
	if err := file.Link(folder + name); err != nil {
		return withoutPath(err)
	}
	if err := syncDir(dir); err != nil {
		_ = unix.Unlinkat(dir.fd, name, 0)
		return err
	}
	return nil
}

// syncDir syncs dir, if its file system can, so that a new name survives a crash.
func syncDir(dir *directory) error {
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
