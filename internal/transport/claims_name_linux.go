package transport

import (
	"bufio"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// socketName is the name of a socket of a ledger. In the abstract namespace of
// Unix sockets it reads, after a NUL byte,
//
//	maclef/<id of the TPM>/<kind>/<handle, 8 hexadecimal digits>/<owner>
//
// and without the handle for the kinds agentKind and markerKind.
type socketName struct {
	kind   byte
	handle uint32
	owner  socketOwner
}

// socketOwner is a ledger: "<pid>-<random hexadecimal digits>", or "<pid>".
type socketOwner struct {
	pid    int
	random string
}

// Kinds besides those of a Claim.
const (
	agentKind  = 'a' // hears of those who want room
	markerKind = 'm' // shows to who made it that the list is a list
)

// Sizes that keep a name within the 107 bytes of an abstract address.
const (
	maxID       = 60
	ownerRandom = 16
	maxPID      = 1<<31 - 1
)

const namePrefix = "maclef/"

func (n socketName) in(id string) string {
	owner := strconv.Itoa(n.owner.pid)
	if n.owner.random != "" {
		owner += "-" + n.owner.random
	}
	if n.kind == agentKind || n.kind == markerKind {
		return fmt.Sprintf("%s%s/%c/%s", namePrefix, id, n.kind, owner)
	}
	return fmt.Sprintf("%s%s/%c/%08x/%s", namePrefix, id, n.kind, n.handle, owner)
}

// validID admits what cannot be mistaken for another part of a name or a line.
func validID(id string) bool {
	return id != "" && len(id) <= maxID && only(id, "abcdefghijklmnopqrstuvwxyz0123456789.:-")
}

func validKind(kind byte) bool { return 'a' <= kind && kind <= 'z' }

// only reports whether a text has no other characters than these.
func only(text, characters string) bool { return strings.Trim(text, characters) == "" }

// parseName reads a name of a TPM's sockets. A name that is not exactly as
// socketName.in would write it is somebody else's.
func parseName(text, id string) (n socketName, ok bool) {
	rest, ok := strings.CutPrefix(text, namePrefix+id+"/")
	if !ok {
		return n, false
	}
	parts := strings.Split(rest, "/")
	if len(parts) < 2 || len(parts[0]) != 1 {
		return n, false
	}
	n.kind = parts[0][0]
	if len(parts) == 3 {
		handle, _ := strconv.ParseUint(parts[1], 16, 32)
		n.handle = uint32(handle)
	}
	pid, random, _ := strings.Cut(parts[len(parts)-1], "-")
	number, _ := strconv.ParseUint(pid, 10, 31)
	n.owner = socketOwner{int(number), random}
	ok = validKind(n.kind) && number > 0 && len(random) <= ownerRandom && only(random, "0123456789abcdef")
	return n, ok && n.in(id) == text
}

// parseSockets calls found with every name of a TPM's sockets that a table in
// the form of /proc/net/unix lists; the same name may come twice. Names of
// others in the table can be any bytes, whole false lines among them.
func parseSockets(table io.Reader, id string, found func(socketName)) error {
	lines := bufio.NewScanner(table)
	for first := true; lines.Scan(); first = false {
		line := lines.Text()
		if first && !strings.HasPrefix(line, "Num ") {
			return fmt.Errorf("unknown form: %.40q", line)
		}
		if name, ok := parseSocket(line, id); ok {
			found(name)
		}
	}
	return lines.Err()
}

// parseSocket reads a line: address, references, protocol, flags, type
// (SOCK_DGRAM is 2), state, inode and path, in which a NUL byte is "@".
func parseSocket(line, id string) (n socketName, ok bool) {
	before, path, ok := strings.Cut(line, " @"+namePrefix)
	if !ok {
		return n, false
	}
	fields := strings.Fields(before)
	if len(fields) != 7 || !strings.HasSuffix(fields[0], ":") || fields[4] != "0002" || !only(fields[6], "0123456789") {
		return n, false
	}
	return parseName(namePrefix+path, id)
}
