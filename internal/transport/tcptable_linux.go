package transport

import (
	"bufio"
	"encoding/binary"
	"encoding/hex"
	"io"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// ends are the addresses of a TCP connection, seen from one side.
type ends struct{ local, remote netip.AddrPort }

// parseTCP calls found with each established connection that a table in the form
// of /proc/net/tcp or tcp6 lists, until the deadline. The inode is 0 for one
// that no process has taken in.
func parseTCP(table io.Reader, deadline time.Time, found func(e ends, inode uint64)) {
	const established = "01"
	lines := bufio.NewScanner(table)
	for i := 1; lines.Scan(); i++ {
		if i%1024 == 0 && time.Now().After(deadline) {
			return
		}
		// Number, local and remote address, state, queues, timer, retransmissions,
		// user, timeout, inode.
		fields := strings.Fields(lines.Text())
		if len(fields) < 10 || fields[3] != established {
			continue
		}
		local, okLocal := parseTCPAddress(fields[1])
		remote, okRemote := parseTCPAddress(fields[2])
		inode, err := strconv.ParseUint(fields[9], 10, 64)
		if okLocal && okRemote && err == nil {
			found(ends{local, remote}, inode)
		}
	}
}

// parseTCPAddress reads "0100007F:1F90": 32-bit words of this machine's byte
// order, which hold an address in network order, and a port.
func parseTCPAddress(text string) (netip.AddrPort, bool) {
	address, port, _ := strings.Cut(text, ":")
	raw, err := hex.DecodeString(address)
	if err != nil || len(raw)%4 != 0 {
		return netip.AddrPort{}, false
	}
	for word := raw; len(word) > 0; word = word[4:] {
		binary.NativeEndian.PutUint32(word, binary.BigEndian.Uint32(word))
	}
	ip, ok := netip.AddrFromSlice(raw)
	number, err := strconv.ParseUint(port, 16, 16)
	return netip.AddrPortFrom(ip.Unmap(), uint16(number)), ok && err == nil
}
