package transport

import (
	"context"
	"fmt"
	"net"
	"os"
	"time"
)

// peerLimit is how long the tables of connections are read.
const peerLimit = 5 * time.Second

// socketHolders returns the other processes whose connection a server on this
// machine has taken in, not those that wait in its queue: who uses the TPM of an
// swtpm. network is "unix" or "tcp". What cannot be known gives nothing, as for
// connections to and from other network namespaces, and processes of other
// users unless this is root's.
func socketHolders(network, address string) []Process {
	var links []connection
	deadline := time.Now().Add(peerLimit)
	switch network {
	case "unix":
		links = unixConnections(address, deadline)
	case "tcp":
		links = tcpConnections(address, deadline)
	}
	clients := map[string]bool{}
	for _, link := range links {
		clients[fmt.Sprintf("socket:[%d]", link.client)] = true
	}
	if len(clients) == 0 {
		return nil
	}
	return Kernel{}.openers(func(pid int, target string) bool {
		return clients[target] && pid != os.Getpid()
	})
}

// connection has the inodes of the sockets at its ends; the server's is 0 until
// it takes the connection in.
type connection struct{ client, server uint64 }

// maxConnections bounds what is remembered of a server with many clients.
const maxConnections = 1 << 14

// tcpConnections returns the connections that a server on a port of this machine
// has taken in.
func tcpConnections(address string, deadline time.Time) []connection {
	port := portOf(address)
	clients, servers := map[ends]uint64{}, map[ends]uint64{}
	for _, path := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		table, err := os.Open(path)
		if err != nil {
			continue
		}
		parseTCP(table, deadline, func(e ends, inode uint64) {
			if e.remote.Port() == port && len(clients) < maxConnections {
				clients[e] = inode
			}
			if e.local.Port() == port && len(servers) < maxConnections {
				servers[ends{e.remote, e.local}] = inode
			}
		})
		table.Close()
	}
	var found []connection
	for e, client := range clients {
		if server := servers[e]; server != 0 {
			found = append(found, connection{client, server})
		}
	}
	return found
}

func portOf(address string) uint16 {
	_, service, err := net.SplitHostPort(address)
	if err != nil {
		return 0
	}
	port, err := net.DefaultResolver.LookupPort(context.Background(), "tcp", service)
	if err != nil {
		return 0
	}
	return uint16(port)
}
