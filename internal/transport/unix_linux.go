package transport

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
)

// maxUnixPath is the longest path that fits into struct sockaddr_un.
const maxUnixPath = 107

// dialUnix connects to a Unix socket, however long its path is.
func dialUnix(ctx context.Context, path string) (net.Conn, error) {
	var d net.Dialer
	if len(path) <= maxUnixPath {
		return d.DialContext(ctx, "unix", path)
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	return d.DialContext(ctx, "unix", inDir(dir, filepath.Base(path)))
}

// inDir is a short path to a file in an open directory, wherever it has moved.
func inDir(dir *os.File, base string) string {
	return fmt.Sprintf("/proc/self/fd/%d/%s", dir.Fd(), base)
}
