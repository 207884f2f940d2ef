package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"maclef/ecryptmount/internal/ecryptfs"
)

const mountTable = "/proc/self/mountinfo"

func readTable() ([]ecryptfs.Mount, error) {
	text, err := os.ReadFile(mountTable)
	if err != nil {
		return nil, err
	}
	mounts, err := ecryptfs.ParseMounts(string(text))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", mountTable, err)
	}
	return mounts, nil
}

// watchTable sends a value whenever the mount table changes, until stop is closed.
func watchTable(stop <-chan struct{}) <-chan struct{} {
	changed := make(chan struct{}, 1)
	go func() {
		file, err := os.Open(mountTable)
		if err != nil {
			return
		}
		defer file.Close()
		wait := []unix.PollFd{{Fd: int32(file.Fd()), Events: unix.POLLPRI}}
		for {
			n, err := unix.Poll(wait, int(time.Second/time.Millisecond))
			select {
			case <-stop:
				return
			default:
			}
			if err == nil && n == 0 || err == unix.EINTR {
				continue
			}
			select {
			case changed <- struct{}{}:
			default:
			}
		}
	}()
	return changed
}

// processesUsing names up to five processes that keep a mounted directory busy.
func processesUsing(point string) string {
	const most = 5
	names := processes(func(dir string) bool { return usesDir(dir, point) })
	if len(names) == 0 {
		return "something that /proc does not show"
	}
	if len(names) > most {
		names = append(names[:most], fmt.Sprintf("%d more", len(names)-most))
	}
	return strings.Join(names, ", ")
}

// processes names the processes that match, such as "bash (process 123)". match gets the process's
// directory in /proc.
func processes(match func(dir string) bool) (names []string) {
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	for _, dir := range dirs {
		if match(dir) {
			comm, _ := os.ReadFile(dir + "/comm")
			names = append(names, fmt.Sprintf("%s (process %s)", strings.TrimSpace(string(comm)), filepath.Base(dir)))
		}
	}
	return names
}

// usesDir reports whether a process has an open, running or mapped file below point, or its working
// directory there.
func usesDir(process, point string) bool {
	links := []string{process + "/cwd", process + "/root", process + "/exe"}
	fds, _ := filepath.Glob(process + "/fd/*")
	maps, _ := filepath.Glob(process + "/map_files/*")
	return slices.ContainsFunc(slices.Concat(links, fds, maps), func(link string) bool {
		target, err := os.Readlink(link)
		return err == nil && (target == point || strings.HasPrefix(target, point+"/"))
	})
}

// deviceProcesses names the other processes that have /dev/ecryptfs open.
func deviceProcesses() []string {
	return processes(func(dir string) bool {
		fds, _ := filepath.Glob(dir + "/fd/*")
		return filepath.Base(dir) != strconv.Itoa(os.Getpid()) && slices.ContainsFunc(fds, func(fd string) bool {
			target, err := os.Readlink(fd)
			return err == nil && target == ecryptfs.DevicePath
		})
	})
}

// unmount unmounts the last mount on point.
func unmount(point string, flags int) error {
	for {
		err := unix.Unmount(point, flags|unix.UMOUNT_NOFOLLOW)
		if !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}
