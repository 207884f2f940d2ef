package newfile

import (
	"cmp"
	"errors"
	"io/fs"
	"os"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// openUnnamed opens a file without a name, and locks it. It returns nil where that is not
// possible: the file system cannot, or there is no /proc, without which it gets no name later.
func openUnnamed(dir string, mode fs.FileMode) *os.File {
	file, err := os.OpenFile(cmp.Or(dir, "."), os.O_WRONLY|unix.O_TMPFILE, mode)
	if err != nil {
		return nil
	}
	if _, err := os.Lstat(descriptorPath(file)); err != nil || flock(file) != nil {
		file.Close()
		return nil
	}
	return file
}

func descriptorPath(file *os.File) string { return "/proc/self/fd/" + strconv.Itoa(int(file.Fd())) }

// flock locks a file, or returns EWOULDBLOCK. The kernel unlocks it when its writer ends.
func flock(file *os.File) error { return unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB) }

// lock locks a file with a temporary name. It returns false if another process took the file for a
// dead writer's before that. A file system without locks has no such process.
func lock(file *os.File, path string) bool {
	if errors.Is(flock(file), unix.EWOULDBLOCK) {
		return false
	}
	info, err := file.Stat()
	return err == nil && isAt(path, info)
}

func isAt(path string, info fs.FileInfo) bool {
	at, err := os.Lstat(path)
	return err == nil && os.SameFile(at, info)
}

// link gives a file a name, in addition to temp. It links the descriptor: somebody may have
// replaced the file of that name.
func link(file *os.File, temp, target string) error {
	err := unix.Linkat(unix.AT_FDCWD, descriptorPath(file), unix.AT_FDCWD, target, unix.AT_SYMLINK_FOLLOW)
	if temp != "" && errors.Is(err, fs.ErrNotExist) { // there is no /proc
		return os.Link(temp, target)
	}
	return err
}

// rename keeps the file open, and so its lock.
func rename(_ *os.File, temp, target string) error { return os.Rename(temp, target) }

// removeStale removes the files of this user's dead writers.
func removeStale(dir string) {
	entries, _ := os.ReadDir(cmp.Or(dir, "."))
	for _, e := range entries {
		if isTempName(e.Name()) {
			removeIfStale(dir + e.Name())
		}
	}
}

// removeIfStale removes a file if nobody holds its lock. It follows no links.
func removeIfStale(path string) {
	info, err := os.Lstat(path)
	if err != nil || !info.Mode().IsRegular() || !ownedByUser(info) {
		return
	}
	file, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return
	}
	defer file.Close()
	opened, err := file.Stat()
	if err == nil && os.SameFile(info, opened) && flock(file) == nil && isAt(path, opened) {
		os.Remove(path)
	}
}

func ownedByUser(info fs.FileInfo) bool {
	stat, ok := info.Sys().(*syscall.Stat_t)
	return ok && int(stat.Uid) == os.Geteuid()
}
