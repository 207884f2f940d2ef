package main

import (
	"errors"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"maclef/ecryptmount/internal/ecryptfs"
)

// An unmountWait waits for the end of a mounted directory.
type unmountWait struct {
	*session
	devices map[string]bool // names of the file systems in the mount table
	asked   bool            // by a signal
	waiting int             // seconds or events since the file systems were last seen mounted
}

// waitForUnmount returns when the directory is unmounted, or when nobody serves it any more.
func (s *session) waitForUnmount(signals <-chan os.Signal, served <-chan struct{}) {
	e := &unmountWait{session: s, devices: make(map[string]bool)}
	if all, err := s.dirMounts(); err == nil {
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
		if e.done() {
			return
		}
	}
}

// mounts returns where the file systems are mounted, the last one first, and the whole mount table.
// known is false if the table cannot be read.
func (e *unmountWait) mounts() (here, table []ecryptfs.Mount, known bool) {
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

// unmountAll unmounts the file systems wherever they are mounted. It returns the last failure.
func (e *unmountWait) unmountAll(flags int) (failed error) {
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

// tryUnmount handles the first signal.
func (e *unmountWait) tryUnmount() {
	err := e.unmountAll(0)
	switch {
	case errors.Is(err, unix.EBUSY):
		e.logf("%s is in use by %s: it will be unmounted when they are done; a second signal detaches it at once", e.point, processesUsing(e.point))
	case err != nil:
		e.logf("error: unmount %s: %v; trying again", e.point, err)
	}
}

// detach detaches the directory although it is in use.
func (e *unmountWait) detach() {
	here, _, _ := e.mounts()
	users := processesUsing(e.point)
	if failed := e.unmountAll(unix.MNT_DETACH); failed != nil {
		e.logf("error: detach %s: %v: it stays mounted, but nobody serves it", e.point, failed)
		return
	}
	if len(here) > 0 {
		e.logf("%s was detached while it was in use by %s; they can finish with what they have open", e.point, users)
	}
}

// done reports whether the file system is gone. The mount table is not enough: it may be mounted in
// another mount namespace, or have been detached while files were open.
func (e *unmountWait) done() bool {
	here, table, known := e.mounts()
	if !known || len(here) > 0 {
		e.waiting = 0
		return false
	}
	if e.hiddenUsers(table) <= 0 {
		return true
	}
	const patience = 3 // an unmounted file system takes a moment to write its files
	if e.waiting++; e.waiting == patience {
		e.logf("%s was unmounted, but something still uses it: ecryptmount serves it until that ends or a signal comes", e.point)
	}
	return false
}

// hiddenUsers returns how many users of the kernel's module appear neither in the mount table nor
// as processes with an open device.
func (s *session) hiddenUsers(table []ecryptfs.Mount) int {
	n := moduleUsers() - len(s.devices)
	if n > 0 {
		n -= len(deviceProcesses())
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
