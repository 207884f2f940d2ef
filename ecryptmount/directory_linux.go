package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"maclef/internal/cli"
)

// A directory is an open directory with its path. It stays open because whoever owns a directory
// above it can put something else in its place at any time, such as a link to /etc.
type directory struct {
	path  string // as mount tables show it: absolute, without symbolic links
	fd    int    // O_PATH, which does not keep a file system busy; -1 when closed
	stat  unix.Stat_t
	links []unix.Stat_t // the symbolic links on the way to it
	// rootOnly says that only root can put something else in its place.
	rootOnly bool
}

// findDir opens the directory called name. It refuses a symbolic link of another user, unless that
// user owns the directory: the link may be a trap.
func findDir(name string) (*directory, error) {
	absolute, err := filepath.Abs(name)
	if err != nil {
		return nil, fmt.Errorf("mount %s: %w", name, err)
	}
	d, err := openDir(absolute)
	if err != nil {
		err = fmt.Errorf("mount %s: %w", name, err)
		if errors.Is(err, fs.ErrNotExist) {
			err = cli.WithHint(err, "make the directory first: mkdir "+name)
		}
		return nil, err
	}
	for _, link := range d.links {
		if link.Uid != 0 && link.Uid != d.stat.Uid {
			d.release()
			return nil, cli.WithHint(fmt.Errorf("mount %s: a symbolic link of %s leads to %s, which belongs to %s", name, userName(int(link.Uid)), d.path, userName(int(d.stat.Uid))),
				"if that is what you want, name the directory itself: "+d.path)
		}
	}
	return d, nil
}

// openDir opens an absolute path one name at a time, and notes the links and permissions on the
// way.
func openDir(absolute string) (*directory, error) {
	const mostLinks = 40
	d := &directory{path: "/", fd: -1, rootOnly: true}
	if err := d.enter(unix.AT_FDCWD, "/"); err != nil {
		return nil, err
	}
	for todo := strings.Split(absolute, "/"); len(todo) > 0; {
		name := todo[0]
		todo = todo[1:]
		if name == "" || name == "." {
			continue
		}
		target, err := d.step(name)
		if err == nil && target != "" && len(d.links) > mostLinks {
			err = unix.ELOOP
		}
		if err == nil && strings.HasPrefix(target, "/") {
			d.path = "/"
			err = d.enter(unix.AT_FDCWD, "/")
		}
		if err != nil {
			d.release()
			return nil, err
		}
		if target != "" {
			todo = append(strings.Split(target, "/"), todo...)
		}
	}
	return d, nil
}

// step opens name in the directory. If name is a symbolic link it returns the link's target and
// stays where it is.
func (d *directory) step(name string) (target string, err error) {
	above := d.stat
	err = d.enter(d.fd, name)
	if err == nil {
		d.path = path.Join(d.path, name)
		root, sticky := above.Uid == 0, above.Mode&unix.S_ISVTX != 0 && d.stat.Uid == 0
		d.rootOnly = d.rootOnly && root && (above.Mode&0o022 == 0 || sticky)
		return "", nil
	}
	if err != unix.ENOTDIR && err != unix.ELOOP {
		return "", err
	}
	fd, err := unix.Openat(d.fd, name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", err
	}
	defer unix.Close(fd)
	var link unix.Stat_t
	if err := unix.Fstat(fd, &link); err != nil {
		return "", err
	}
	if link.Mode&unix.S_IFMT != unix.S_IFLNK {
		return "", errors.New("it is not a directory")
	}
	d.links = append(d.links, link)
	buf := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(fd, "", buf)
	return string(buf[:max(n, 0)]), err
}

// enter opens a directory in place of the current one.
func (d *directory) enter(at int, name string) error {
	fd, err := unix.Openat(at, name, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	d.release()
	d.fd = fd
	return unix.Fstat(fd, &d.stat)
}

// recheck checks that the path still leads to the same directory, and opens it again if it was
// released.
func (d *directory) recheck() error {
	now, err := openDir(d.path)
	switch {
	case err != nil:
		return fmt.Errorf("%s was moved away while the TPM was asked: %w", d.path, err)
	case len(now.links) > 0 || d.fd >= 0 && (now.stat.Dev != d.stat.Dev || now.stat.Ino != d.stat.Ino):
		now.release()
		return fmt.Errorf("something else was put in the place of %s while the TPM was asked", d.path)
	}
	d.release()
	*d = *now
	return nil
}

// release closes the directory. It may be called again.
func (d *directory) release() {
	if d != nil && d.fd >= 0 {
		unix.Close(d.fd)
		d.fd = -1
	}
}

// statfs describes the file system that contains the directory.
func (d *directory) statfs() (unix.Statfs_t, error) {
	var st unix.Statfs_t
	if err := unix.Fstatfs(d.fd, &st); err != nil {
		return st, fmt.Errorf("check %s: %w", d.path, err)
	}
	return st, nil
}

// descriptorPath is the path of an open descriptor in /proc.
func descriptorPath(fd int) string { return fmt.Sprintf("/proc/self/fd/%d", fd) }

func withoutPath(err error) error {
	var path *os.PathError
	if errors.As(err, &path) {
		return path.Err
	}
	var link *os.LinkError
	if errors.As(err, &link) {
		return link.Err
	}
	return err
}
