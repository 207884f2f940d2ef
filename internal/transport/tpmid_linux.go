package transport

import (
	"context"
	"crypto/sha256"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// lookupLimit is how long a host's name is looked up.
const lookupLimit = 5 * time.Second

// tpmID names a TPM for all processes of this machine, whichever of its names
// they use: network is "unix", "tcp" or "device". A
// software TPM's Unix socket is another one when it is restarted.
func tpmID(network, address string) (string, error) {
	switch network {
	case "tcp":
		return hostID(address)
	case "unix":
		if strings.HasPrefix(address, "@") {
			return digestID("n", address), nil
		}
	}
	info, err := os.Stat(address)
	if err != nil {
		return "", err
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	switch mode := info.Mode(); {
	case network == "unix" && ok && mode&os.ModeSocket != 0:
		return fmt.Sprintf("u%x-%d", uint64(stat.Dev), stat.Ino), nil
	case network == "device" && ok && mode&os.ModeCharDevice != 0:
		return fmt.Sprintf("d%d-%d", unix.Major(uint64(stat.Rdev)), unix.Minor(uint64(stat.Rdev))), nil
	}
	return "", fmt.Errorf("%s: %w", address, errID)
}

// hostID is "t<host>-<port>". All names of this machine are "localhost": two
// TPMs under one id do no harm, one TPM under two would.
func hostID(address string) (string, error) {
	host, service, err := net.SplitHostPort(address)
	if err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(context.Background(), lookupLimit)
	defer cancel()
	if port, err := net.DefaultResolver.LookupPort(ctx, "tcp", service); err == nil {
		service = strconv.Itoa(port)
	}
	id := "t" + hostName(ctx, host) + "-" + service
	if !validID(id) {
		id = digestID("t", id)
	}
	return id, nil
}

// hostName is one name for all of a host's.
func hostName(ctx context.Context, host string) string {
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	if host == "" || host == "localhost" {
		return "localhost"
	}
	addresses, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil || len(addresses) == 0 {
		return host
	}
	for i, a := range addresses {
		addresses[i] = a.Unmap()
		if isLocal(addresses[i]) {
			return "localhost"
		}
	}
	return slices.MinFunc(addresses, netip.Addr.Compare).String()
}

func isLocal(a netip.Addr) bool {
	if a.IsLoopback() || a.IsUnspecified() {
		return true
	}
	own, _ := net.InterfaceAddrs()
	return slices.ContainsFunc(own, func(n net.Addr) bool {
		prefix, err := netip.ParsePrefix(n.String())
		return err == nil && prefix.Addr().Unmap() == a.WithZone("")
	})
}

// digestID stands for what has other characters than an id, or too many.
func digestID(kind, text string) string {
	return fmt.Sprintf("%s%x", kind, sha256.Sum256([]byte(text)))[:33]
}
