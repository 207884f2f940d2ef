package main

import (
	"errors"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"maclef/ecryptmount/internal/ecryptfs"
)

// An ending is what is known of a directory that is to be unmounted.
type ending struct {
	*session
	devices map[string]bool // name the file systems in the mount table, also where they are mounted elsewhere
	asked   bool            // by a signal
	waiting int             // how often they were looked for in vain since they were last seen mounted
}

// await returns when the directory is unmounted, or nobody answers for it any
// more.
func (s *session) await(signals <-chan os.Signal, served <-chan struct{}) {
	e := &ending{session: s, devices: make(map[string]bool)}
	if all, err := s.leftovers(); err == nil {
		for _, m := range all {
			e.devices[m.Device] = true
		}
	}
	stop := make(chan struct{})
	defer close(stop)
	changed := watchTable(stop)
	second := time.NewTicker(time.Second)
	defer second.Stop()
	for {
		select {
		case <-served:
			e.detach()
			return
		case <-signals:
			if e.asked || e.waiting > 0 {
				e.detach()
				return
			}
			e.asked = true
			e.tryUnmount()
		case <-second.C:
			if e.asked {
				e.unmountAll(0)
			}
		case <-changed:
		}
		if e.over() {
			return
		}
	}
}

// mounts are where the file systems are mounted, the last one first, and the table
// that says so; known is false where that cannot be read.
func (e *ending) mounts() (here, table []ecryptfs.Mount, known bool) {
	table, err := readTable()
	if err != nil {
		return nil, nil, false
	}
	for _, m := range slices.Backward(table) {
		if m.FSType == ecryptfs.FSType && e.devices[m.Device] {
			here = append(here, m)
		}
	}
	return here, table, true
}

// unmountAll unmounts the file systems wherever it is mounted, and returns what the
// last failure was.
func (e *ending) unmountAll(flags int) (failed error) {
	here, table, _ := e.mounts()
	for _, m := range here {
		var err error = unix.EBUSY // something else is mounted over it
		if ecryptfs.MountAt(table, m.Point).Device == m.Device {
			err = unmount(m.Point, flags)
		}
		if err != nil {
			failed = err
		}
	}
	return failed
}

// tryUnmount is the answer to a first signal.
func (e *ending) tryUnmount() {
	err := e.unmountAll(0)
	switch {
	case errors.Is(err, unix.EBUSY):
		e.say("%s is in use by %s: it will be unmounted when they are done; a second signal detaches it at once", e.point, usersOf(e.point))
	case err != nil:
		e.say("error: unmount %s: %v; trying again", e.point, err)
	}
}

// detach takes the directory out of sight although it is in use.
func (e *ending) detach() {
	here, _, _ := e.mounts()
	users := usersOf(e.point)
	if failed := e.unmountAll(unix.MNT_DETACH); failed != nil {
		e.say("error: detach %s: %v: it stays mounted, and nobody answers for it", e.point, failed)
		return
	}
	if len(here) > 0 {
		e.say("%s was detached while it was in use by %s; they can finish with what they have open", e.point, users)
	}
}

// over reports whether the file system is gone. A mount table does not show all:
// it may be mounted in another mount namespace, or have been detached while files
// were open.
func (e *ending) over() bool {
	here, table, known := e.mounts()
	if !known || len(here) > 0 {
		e.waiting = 0
		return false
	}
	if e.unseen(table) <= 0 {
		return true
	}
	const patience = 3 // to write its files, an unmounted file system takes a moment
	if e.waiting++; e.waiting == patience {
		e.say("%s was unmounted, but something has it still: it is answered for until that ends, or a signal comes", e.point)
	}
	return false
}

// unseen is how many users the kernel's module has that neither the mount table
// nor processes with its device account for.
func (s *session) unseen(table []ecryptfs.Mount) int {
	n := moduleUsers() - len(s.devices)
	if n > 0 {
		n -= len(deviceHolders())
	}
	seen := make(map[string]bool)
	for _, m := range table {
		if m.FSType == ecryptfs.FSType && !seen[m.Device] {
			seen[m.Device] = true
			n--
		}
	}
	return n
}
