package main

import (
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"

	"maclef/ecryptmount/internal/ecryptfs"
	"maclef/internal/cli"
)

// attach mounts lower on point with the mount API of Linux 5.2. The new file system is detached at
// first. It is made from the path of the lower directory, because the mount table shows that path,
// and it is checked against the open directory before it is moved to the mount point.
func (s *session) attach(flags uintptr) error {
	fd, err := makeFileSystem(s.lower, flags, s.mountData())
	if errors.Is(err, unix.ENOSYS) {
		return s.attachByPath(flags)
	}
	if err != nil {
		return mountError(s.point, err)
	}
	defer unix.Close(fd)
	if err := s.checkLower(fd); err != nil {
		return err
	}
	if err := unix.MoveMount(fd, "", s.pointDir.fd, "", unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_EMPTY_PATH); err != nil {
		return mountError(s.point, err)
	}
	if err := s.checkPoint(fd); err != nil {
		_ = unix.Unmount(descriptorPath(fd), unix.MNT_DETACH) // fd keeps it busy
		return err
	}
	return nil
}

// makeFileSystem returns a descriptor of the root of the new file system. Closing it ends the file
// system unless it was mounted.
func makeFileSystem(source string, flags uintptr, data string) (int, error) {
	fs, err := unix.Fsopen(ecryptfs.FSType, unix.FSOPEN_CLOEXEC)
	if err != nil {
		return -1, err
	}
	defer unix.Close(fs)
	if err := unix.FsconfigSetString(fs, "source", source); err != nil {
		return -1, err
	}
	options := strings.Split(data, ",")
	if flags&unix.MS_RDONLY != 0 {
		options = append(options, "ro")
	}
	for _, option := range options {
		name, value, hasValue := strings.Cut(option, "=")
		if hasValue {
			err = unix.FsconfigSetString(fs, name, value)
		} else {
			err = unix.FsconfigSetFlag(fs, name)
		}
		if err != nil {
			return -1, fmt.Errorf("option %s: %w", name, err)
		}
	}
	if err := unix.FsconfigCreate(fs); err != nil {
		return -1, err
	}
	// These flags have the same values for mount(2) and fsmount(2). MS_NOATIME does not.
	attributes := int(flags & (unix.MS_RDONLY | unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC))
	if flags&unix.MS_NOATIME != 0 {
		attributes |= unix.MOUNT_ATTR_NOATIME
	}
	return unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, attributes)
}

// checkLower checks that the new file system shows the open lower directory. eCryptfs takes the
// inode number of its root and its fsid from below.
func (s *session) checkLower(fd int) error {
	if s.lowerDir.rootOnly { // only root could have changed what the path means
		return nil
	}
	var root unix.Stat_t
	var upper unix.Statfs_t
	lower, err := s.lowerDir.statfs()
	if err == nil {
		err = errors.Join(unix.Fstat(fd, &root), unix.Fstatfs(fd, &upper))
	}
	if err != nil {
		return fmt.Errorf("mount %s: check what was mounted: %w", s.point, err)
	}
	if root.Ino != s.lowerDir.stat.Ino || root.Uid != s.lowerDir.stat.Uid || upper.Fsid != lower.Fsid {
		return fmt.Errorf("mount %s: something else was put in the place of %s meanwhile", s.point, s.lower)
	}
	return nil
}

// checkPoint checks that the file system is mounted on s.point. Somebody may have moved the
// directory meanwhile.
func (s *session) checkPoint(fd int) error {
	var root unix.Stat_t
	if err := unix.Fstat(fd, &root); err != nil {
		return fmt.Errorf("mount %s: %w", s.point, err)
	}
	table, err := readTable()
	if err != nil {
		return err
	}
	m := ecryptfs.MountAt(table, s.point)
	if m == nil || m.Device != fmt.Sprintf("%d:%d", unix.Major(root.Dev), unix.Minor(root.Dev)) {
		return fmt.Errorf("mount %s: the directory was moved, or something else was mounted on it, meanwhile", s.point)
	}
	return nil
}

// attachByPath mounts on kernels before Linux 5.2, which look up both directories by path.
func (s *session) attachByPath(flags uintptr) error {
	for _, d := range []*directory{s.lowerDir, s.pointDir} {
		if !d.rootOnly {
			return cli.WithHint(fmt.Errorf("mount %s: users other than root could replace %s, and this kernel (before Linux 5.2) would mount the replacement", s.point, d.path),
				"use a directory whose path only root can change, such as one in /srv")
		}
	}
	if err := unix.Mount(s.lower, s.point, ecryptfs.FSType, flags, s.mountData()); err != nil {
		return mountError(s.point, err)
	}
	return nil
}

func mountError(point string, err error) error {
	err = fmt.Errorf("mount %s: %w", point, err)
	switch {
	case errors.Is(err, unix.EPERM):
		return cli.WithHint(err, "mounting needs the capability CAP_SYS_ADMIN, which root in a container often lacks")
	case errors.Is(err, unix.EINVAL):
		return cli.WithHint(err, "the kernel says more: dmesg | tail")
	}
	return err
}
