package transport

import (
	"context"
	"fmt"
	"net"
	"os"

	"golang.org/x/sys/unix"
)

// maxUnixPath is the longest path that fits into struct sockaddr_un.
const maxUnixPath = 107

// dialUnix connects to a Unix socket, however long its path is.
func dialUnix(ctx context.Context, path string) (net.Conn, error) {
	if len(path) > maxUnixPath {
		socket, err := os.OpenFile(path, unix.O_PATH, 0)
		if err != nil {
			return nil, err
		}
		defer socket.Close()
		path = fmt.Sprintf("/proc/self/fd/%d", socket.Fd())
	}
	return new(net.Dialer).DialContext(ctx, "unix", path)
}
