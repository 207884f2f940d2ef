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

// openDevices becomes the kernel's daemon for all users. The kernel has one for
// each, so this is also what keeps a second ecryptmount out.
func (s *session) openDevices() error {
	for _, uid := range s.users {
		d, err := s.openDevice(uid)
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

// openDevice waits for an ecryptmount that is about to end, since what it had
// mounted is not any more.
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

// leftovers are the mounts of the directory, wherever they are, the last one first.
// That nobody answers for them is certain once this process is the daemon.
func (s *session) leftovers() ([]ecryptfs.Mount, error) {
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

// takeOver finds what a killed ecryptmount left: mounts that nobody answers for.
// They are unmounted, or, while they are in use, answered for again as they are:
// a second file system over the same directory would lose what is written through
// the first.
func (s *session) takeOver() error {
	left, err := s.leftovers()
	if err != nil {
		return err
	}
	for _, m := range left {
		if err := unmount(m.Point, 0); err != nil && !errors.Is(err, unix.EBUSY) {
			return fmt.Errorf("unmount %s, which a killed ecryptmount left: %w", m.Point, err)
		}
	}
	busy, err := s.leftovers()
	switch {
	case err != nil:
		return err
	case len(busy) > 0:
		return s.adopt(busy)
	}
	if err := s.checkUnseen(); err != nil {
		return err
	}
	if len(left) > 0 {
		s.env.Notef("%s was still mounted by an ecryptmount that was killed; it is unmounted now", points(left))
		return nil
	}
	return s.checkFileSystem()
}

// adopt has this process answer for mounts that are in use.
func (s *session) adopt(busy []ecryptfs.Mount) error {
	if !slices.ContainsFunc(busy, func(m ecryptfs.Mount) bool { return m.Point == s.point }) {
		return cli.WithHint(fmt.Errorf("%s is mounted on %s by an ecryptmount that was killed, and in use by %s", s.lower, points(busy), usersOf(busy[0].Point)),
			fmt.Sprintf("have it answered for there: ecryptmount with the same flags and %s %s; or end its use, and try again", s.lower, busy[len(busy)-1].Point))
	}
	s.adopted = true
	s.env.Notef("%s was still mounted by an ecryptmount that was killed, and is in use by %s: it stays mounted as it is, and is answered for again",
		points(busy), usersOf(s.point))
	if len(s.o.mount.text) > 0 {
		s.env.Notef("-o %s is of no effect on what is mounted already", s.o.mount.String())
	}
	return nil
}

// points lists where mounts are.
func points(mounts []ecryptfs.Mount) string {
	var names []string
	for _, m := range mounts {
		names = append(names, m.Point)
	}
	return strings.Join(names, ", ")
}

// checkUnseen refuses to mount while an eCryptfs is in use that no mount table
// shows: it may be one of this directory.
func (s *session) checkUnseen() error {
	const patience = 3 * time.Second // an unmounted file system takes a moment to end
	for end := time.Now().Add(patience); ; time.Sleep(100 * time.Millisecond) {
		table, err := readTable()
		if err != nil {
			return err
		}
		if s.unseen(table) <= 0 {
			return nil
		}
		if time.Now().After(end) {
			return cli.WithHint(errors.New("an eCryptfs directory is in use although it is not mounted here: it was detached (umount -l) while files were open, or is mounted in a container. "+
				"If it is this one, what is written to it would be lost"), "end the processes that use it, or the container, and try again")
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
