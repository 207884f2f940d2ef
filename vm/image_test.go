//go:build linux

package vm_test

import (
	"bufio"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// An archive is a cpio archive ("newc", Linux's
// Documentation/driver-api/early-userspace/buffer-format.rst).
type archive struct {
	w     *bufio.Writer
	seen  map[string]bool
	inode int
	size  int64
	err   error
}

// users are the users of the machines: root, and marie without privileges.
const users = "root:x:0:0:root:/root:/bin/sh\nmarie:x:1000:1000:Marie:/home/marie:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n"

// writeImage writes the initial file system of the machines, without the script.
func writeImage(w io.Writer, kernel string) error {
	m := &archive{w: bufio.NewWriter(w), seen: map[string]bool{}}
	m.file("init", 0o755, []byte(guestInit))
	m.file("guest/functions", 0o644, []byte(guestFunctions))
	m.file("etc/passwd", 0o644, []byte(users))
	m.file("etc/group", 0o644, []byte("root:x:0:\nmarie:x:1000:\nnogroup:x:65534:\n"))
	m.file("etc/hosts", 0o644, []byte("127.0.0.1 localhost\n"))
	m.file("etc/fuse.conf", 0o644, nil)
	m.tree(filepath.Join(kernel, "lib"), "lib", 0o644)
	m.copy(filepath.Join(kernel, "busybox"), "bin/busybox")
	return m.end()
}

// tree adds the files below dir on this computer, with the path to.
func (m *archive) tree(dir, to string, mode fs.FileMode) {
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		m.file(filepath.Join(to, strings.TrimPrefix(path, dir)), mode, data)
		return m.err
	})
	m.fail(err)
}

func (m *archive) copy(path, to string) {
	data, err := os.ReadFile(path)
	m.fail(err)
	m.file(to, 0o755, data)
}

// file adds a file and its directories. It adds each only once.
func (m *archive) file(name string, mode fs.FileMode, data []byte) {
	if m.seen[name] {
		return
	}
	m.seen[name] = true
	m.dir(filepath.Dir(name))
	m.header(name, 0o100000|uint32(mode), len(data))
	m.write(data)
}

func (m *archive) dir(name string) {
	if name == "." || m.seen[name] {
		return
	}
	m.seen[name] = true
	m.dir(filepath.Dir(name))
	m.header(name, 0o040755, 0)
}

// header writes the header of an entry (magic, ino, mode, uid, gid, nlink, mtime, filesize,
// devmajor, devminor, rdevmajor, rdevminor, namesize, check) and its name.
func (m *archive) header(name string, mode uint32, size int) {
	m.inode++
	fields := []int{m.inode, int(mode), 0, 0, 1, 0, size, 0, 0, 0, 0, len(name) + 1, 0}
	h := "070701"
	for _, f := range fields {
		h += fmt.Sprintf("%08X", f)
	}
	m.write([]byte(h + name + "\x00"))
}

// write writes data and pads it to a multiple of 4 bytes.
func (m *archive) write(data []byte) {
	m.size += int64(len(data))
	if m.err == nil {
		_, m.err = m.w.Write(data)
	}
	for ; m.size%4 != 0; m.size++ {
		m.fail(m.w.WriteByte(0))
	}
}

// end writes the end of the archive.
func (m *archive) end() error {
	m.header("TRAILER!!!", 0, 0)
	if m.err != nil {
		return m.err
	}
	return m.w.Flush()
}

func (m *archive) fail(err error) {
	if m.err == nil {
		m.err = err
	}
}

// writeScript writes an archive with the script of one machine.
func writeScript(w io.Writer, script string) error {
	m := &archive{w: bufio.NewWriter(w), seen: map[string]bool{"guest": true}}
	m.file("guest/run", 0o644, []byte(script))
	return m.end()
}
