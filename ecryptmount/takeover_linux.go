package main

import (
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"

	"maclef/internal/cli"
	"maclef/internal/ecryptfs"
)

// openDevices becomes the kernel's daemon for all users. The kernel has one for
// each, so this is also what keeps a second ecryptmount out.
func (s *session) openDevices() error {
	for _, uid := range s.users {
		d, err := ecryptfs.OpenDevice(uid)
		if errors.Is(err, ecryptfs.ErrServed) {
			s.closeDevices()
			return s.served(uid)
		}
		if err != nil {
			s.closeDevices()
			return err
		}
		s.devices = append(s.devices, d)
	}
	return nil
}

func (s *session) closeDevices() {
	for _, d := range s.devices {
		d.Close()
	}
	s.devices = nil
}

// served is the error for a user who has a daemon already.
func (s *session) served(uid int) error {
	who := strings.Join(deviceHolders(), ", ")
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
	text := fmt.Sprintf("%s answers for the user %s already, and the kernel allows one daemon for each user", who, userName(uid))
	if len(others) > 0 {
		text += "; mounted is " + strings.Join(others, ", ")
	}
	return cli.WithHint(errors.New(text), "unmount that first; or put both directories into one, mount that, and use mount --bind to have them where they belong")
}

// mounted is the eCryptfs that is mounted last on the mount point, whoever did it;
// nil where that is something else, or nothing.
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

// ours reports whether a mount is one of this key over this directory.
func (s *session) ours(m *ecryptfs.Mount) bool {
	return m != nil && m.Option("ecryptfs_sig") == string(s.token.Signature) && m.Source == s.lower
}

// takeOver finds what a killed ecryptmount left: a mount that nobody answers for.
// That nobody does is certain, since this process is the daemon now. It is
// unmounted, or, while it is in use, answered for again as it is.
func (s *session) takeOver() error {
	for left := 0; ; left++ {
		m := s.mounted()
		if m == nil {
			if left > 0 {
				s.env.Notef("%s was still mounted by an ecryptmount that was killed; it is unmounted now", s.point)
				return s.chip.freeLeftovers()
			}
			return s.checkFileSystem()
		}
		if !s.ours(m) {
			return cli.WithHint(fmt.Errorf("%s is mounted already: the eCryptfs directory %s with another key (%s)", s.point, m.Source, m.Option("ecryptfs_sig")),
				"unmount it first: umount "+s.point)
		}
		err := unmount(s.point, 0)
		if errors.Is(err, unix.EBUSY) {
			s.adopted = true
			s.env.Notef("%s was still mounted by an ecryptmount that was killed, and is in use by %s: it stays mounted as it is, and is answered for again",
				s.point, usersOf(s.point))
			return s.chip.freeLeftovers()
		}
		if err != nil {
			return fmt.Errorf("unmount %s, which a killed ecryptmount left: %w", s.point, err)
		}
	}
}

// checkFileSystem refuses eCryptfs over eCryptfs, which the kernel does not do.
func (s *session) checkFileSystem() error {
	var st unix.Statfs_t
	if err := unix.Statfs(s.lower, &st); err != nil {
		return fmt.Errorf("look at %s: %w", s.lower, err)
	}
	if st.Type == unix.ECRYPTFS_SUPER_MAGIC {
		return fmt.Errorf("%s is inside an eCryptfs directory that is mounted; the kernel mounts none over another", s.lower)
	}
	return nil
}
