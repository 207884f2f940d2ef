package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"maclef/ecryptmount/internal/ecryptfs"
	"maclef/internal/cli"
)

// openDevices makes this process the kernel's daemon for all users. The kernel has one daemon for
// each user, so a second ecryptmount fails here.
func (s *session) openDevices() error {
	for _, uid := range s.users {
		d, err := s.openDevice(uid)
		if errors.Is(err, ecryptfs.ErrServed) {
			s.closeDevices()
			return s.servedError(uid)
		}
		if err != nil {
			s.closeDevices()
			return err
		}
		s.devices = append(s.devices, d)
	}
	return nil
}

// openDevice opens the device for a user. If no eCryptfs is mounted it waits for another
// ecryptmount that is about to end.
func (s *session) openDevice(uid int) (*ecryptfs.Device, error) {
	const patience = 10 * time.Second
	for end := time.Now().Add(patience); ; time.Sleep(50 * time.Millisecond) {
		d, err := ecryptfs.OpenDevice(uid)
		if !errors.Is(err, ecryptfs.ErrServed) || time.Now().After(end) {
			return d, err
		}
		table, tableErr := readTable()
		if tableErr != nil || slices.ContainsFunc(table, func(m ecryptfs.Mount) bool { return m.FSType == ecryptfs.FSType }) {
			return d, err
		}
	}
}

func (s *session) closeDevices() {
	for _, d := range s.devices {
		d.Close()
	}
	s.devices = nil
}

// servedError is the error for a user who has a daemon already.
func (s *session) servedError(uid int) error {
	who := strings.Join(deviceProcesses(), ", ")
	if who == "" {
		who = "a process that /proc does not show"
	}
	if m := s.mounted(); m != nil && uid == 0 {
		return cli.WithHint(fmt.Errorf("%s is mounted already, by %s", s.point, who), "umount "+s.point+" ends that")
	}
	var others []string
	if table, err := readTable(); err == nil {
		for _, m := range table {
			if m.FSType == ecryptfs.FSType {
				others = append(others, m.Point)
			}
		}
	}
	text := fmt.Sprintf("%s is already the eCryptfs daemon of the user %s, and the kernel allows one for each user", who, userName(uid))
	if len(others) > 0 {
		text += "; mounted now: " + strings.Join(others, ", ")
	}
	return cli.WithHint(errors.New(text), "unmount that first; or put both directories into one, mount it, and use mount --bind to place them")
}

// mounted returns the eCryptfs that is mounted last on the mount point, nil if there is none.
func (s *session) mounted() *ecryptfs.Mount {
	table, err := readTable()
	if err != nil {
		return nil
	}
	m := ecryptfs.MountAt(table, s.point)
	if m == nil || m.FSType != ecryptfs.FSType {
		return nil
	}
	return m
}

// dirMounts returns the mounts of the directory, the last one first. Once this process is the
// daemon, no other process serves them.
func (s *session) dirMounts() ([]ecryptfs.Mount, error) {
	table, err := readTable()
	if err != nil {
		return nil, err
	}
	var left []ecryptfs.Mount
	for _, m := range slices.Backward(table) {
		switch {
		case m.FSType != ecryptfs.FSType || m.Source != s.lower && m.Point != s.point:
			continue
		case m.Source != s.lower || m.Option("ecryptfs_sig") != string(s.token.Signature):
			return nil, cli.WithHint(fmt.Errorf("%s is mounted already: the eCryptfs directory %s with another key (%s)", m.Point, m.Source, m.Option("ecryptfs_sig")),
				"unmount it first: umount "+m.Point)
		}
		left = append(left, m)
	}
	return left, nil
}

// handleStaleMounts unmounts what a killed ecryptmount left mounted. If a mount is in use, this
// process serves it again: a second file system over the same directory would lose writes to the
// first.
func (s *session) handleStaleMounts() error {
	left, err := s.dirMounts()
	if err != nil {
		return err
	}
	for _, m := range left {
		if err := unmount(m.Point, 0); err != nil && !errors.Is(err, unix.EBUSY) {
			return fmt.Errorf("unmount %s, which a killed ecryptmount left: %w", m.Point, err)
		}
	}
	busy, err := s.dirMounts()
	switch {
	case err != nil:
		return err
	case len(busy) > 0:
		return s.resume(busy)
	}
	if err := s.checkHiddenMounts(); err != nil {
		return err
	}
	if len(left) > 0 {
		s.env.Notef("%s was still mounted by an ecryptmount that was killed; it is unmounted now", mountPoints(left))
		return nil
	}
	return s.checkFileSystem()
}

// resume serves mounts that are in use.
func (s *session) resume(busy []ecryptfs.Mount) error {
	if !slices.ContainsFunc(busy, func(m ecryptfs.Mount) bool { return m.Point == s.point }) {
		return cli.WithHint(fmt.Errorf("%s is mounted on %s by an ecryptmount that was killed, and in use by %s", s.lower, mountPoints(busy), processesUsing(busy[0].Point)),
			fmt.Sprintf("serve it there: run ecryptmount with the same flags and %s %s; or end its use and try again", s.lower, busy[len(busy)-1].Point))
	}
	s.resumed = true
	s.env.Notef("%s was still mounted by an ecryptmount that was killed, and is in use by %s: it stays mounted, and is served again",
		mountPoints(busy), processesUsing(s.point))
	if len(s.o.mount.text) > 0 {
		s.env.Notef("-o %s has no effect on a directory that is mounted already", s.o.mount.String())
	}
	return nil
}

func mountPoints(mounts []ecryptfs.Mount) string {
	var names []string
	for _, m := range mounts {
		names = append(names, m.Point)
	}
	return strings.Join(names, ", ")
}

// checkHiddenMounts refuses to mount while an eCryptfs is in use that no mount table shows. It may
// be one of this directory.
func (s *session) checkHiddenMounts() error {
	const patience = 3 * time.Second // an unmounted file system takes a moment to end
	for end := time.Now().Add(patience); ; time.Sleep(100 * time.Millisecond) {
		table, err := readTable()
		if err != nil {
			return err
		}
		if s.hiddenUsers(table) <= 0 {
			return nil
		}
		if time.Now().After(end) {
			return cli.WithHint(errors.New("an eCryptfs directory is in use although it is not mounted here: it was detached (umount -l) while files were open, or is mounted in a container. "+
				"If it is this one, what is written to it would be lost"), "end the processes that use it, or the container, and try again")
		}
	}
}

// checkFileSystem refuses eCryptfs over eCryptfs, which the kernel does not support.
func (s *session) checkFileSystem() error {
	var st unix.Statfs_t
	if err := unix.Statfs(s.lower, &st); err != nil {
		return fmt.Errorf("check %s: %w", s.lower, err)
	}
	if st.Type == unix.ECRYPTFS_SUPER_MAGIC {
		return fmt.Errorf("%s is inside a mounted eCryptfs directory; the kernel cannot mount one over another", s.lower)
	}
	return nil
}
