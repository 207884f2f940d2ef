package transport

import (
	"context"
	"errors"
	"net"
	"os"
	"time"
)

// knock is for how long a host may take to let a connection in before it is asked anew.
// One whose queue is full, as swtpm's is with two in it, says nothing; the kernel would ask
// again ever more rarely, half a minute apart in the end, and others would come before.
const (
	knock      = time.Second
	knockLocal = 20 * time.Millisecond // at this machine
)

// dialTCP connects to a TPM as soon as there is a place in its queue.
func dialTCP(ctx context.Context, network, address string) (net.Conn, error) {
	hosts, port, err := lookUp(ctx, address)
	if err != nil {
		return nil, err
	}
	for {
		for _, host := range hosts {
			limit := knock
			if host == "" || net.ParseIP(host).IsLoopback() {
				limit = knockLocal
			}
			attempt, cancel := context.WithTimeout(ctx, limit)
			conn, failed := new(net.Dialer).DialContext(attempt, network, net.JoinHostPort(host, port))
			cancel()
			if failed == nil {
				return conn, nil
			}
			if ctx.Err() != nil {
				return nil, ended(ctx)
			}
			err = failed
		}
		if !errors.Is(err, os.ErrDeadlineExceeded) && !errors.Is(err, context.DeadlineExceeded) {
			return nil, err
		}
	}
}

// lookUp returns the addresses of a host.
func lookUp(ctx context.Context, address string) (hosts []string, port string, err error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, "", err
	}
	if host == "" {
		return []string{""}, port, nil
	}
	hosts, err = net.DefaultResolver.LookupHost(ctx, host)
	return hosts, port, err
}
