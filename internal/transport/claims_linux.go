package transport

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// ledger tells all processes of this machine what this one has loaded into a
// TPM, and this one what they have. Every handle is claimed by a socket of its
// own, bound to a name (see socketName) that /proc/net/unix lists: the kernel
// drops it with the process, however that ends, and no file is left behind.
//
// What is loaded and not claimed was left behind. To be sure of that, claim in
// the turn that loads, and call living in the turn that lists what is loaded.
//
// Anybody may bind any name: a false claim keeps others from freeing a slot
// until its process ends, no more. Nobody can take a claim away.
//
// Names are those of a network namespace: processes in containers that have a
// network of their own, and services with PrivateNetwork=, do not see each
// other's claims; neither do other machines on a TPM that is reached by TCP.
//
// A ledger may be used by several goroutines.
type ledger struct {
	id    string
	owner socketOwner

	mu     sync.Mutex         // guards what is below
	claims map[socketName]int // their descriptors
	agent  *net.UnixConn      // nil unless onAsked was called and could bind it
	closed bool
}

// newLedger returns an empty ledger. id, from tpmID, is the TPM's for all
// processes of this machine. Whoever learns that the TPM was restarted has
// nothing loaded any more, and closes its ledger.
func newLedger(id string) *ledger {
	return &ledger{owner: newOwner(), id: id, claims: map[socketName]int{}}
}

// newOwner is the name of one ledger of this process. Its random part keeps
// others from taking its names before it does, and two ledgers of a process, or
// of processes with one number in two PID namespaces, from taking each other's.
func newOwner() socketOwner {
	var random [ownerRandom / 2]byte
	rand.Read(random[:])
	return socketOwner{os.Getpid(), hex.EncodeToString(random[:])}
}

// claim says that this process has loaded handle; kind is ClaimKey or
// ClaimSession. Claiming again changes nothing. After an error what is loaded
// works as ever, but others take it for something left behind.
func (l *ledger) claim(kind byte, handle uint32) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	name := socketName{kind, handle, l.owner}
	if _, claimed := l.claims[name]; claimed {
		return nil
	}
	if l.closed {
		return fmt.Errorf("claim %c %08x: %w", kind, handle, os.ErrClosed)
	}
	fd, err := bindName(l.id, name)
	if err != nil {
		return fmt.Errorf("claim %c %08x: %w", kind, handle, err)
	}
	l.claims[name] = fd
	return nil
}

// release takes a claim back, before or after the handle is flushed.
func (l *ledger) release(kind byte, handle uint32) {
	l.mu.Lock()
	defer l.mu.Unlock()
	name := socketName{kind, handle, l.owner}
	if fd, claimed := l.claims[name]; claimed {
		unix.Close(fd)
		delete(l.claims, name)
	}
}

// close takes all claims back and ends what onAsked began, without waiting for
// a call that is under way. It may be called twice.
func (l *ledger) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	for _, fd := range l.claims {
		unix.Close(fd)
	}
	clear(l.claims)
	if l.agent != nil {
		l.agent.Close()
	}
}

// errID is a bug, or the id of something that is no TPM.
var errID = errors.New("this is no id of a TPM")

// bindName returns a socket with this name. Nobody can send to it.
func bindName(id string, name socketName) (fd int, err error) {
	if !validID(id) || !validKind(name.kind) {
		return -1, errID
	}
	fd, err = unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, os.NewSyscallError("socket", err)
	}
	unix.Shutdown(fd, unix.SHUT_RDWR)
	if err := unix.Bind(fd, &unix.SockaddrUnix{Name: "@" + name.in(id)}); err != nil {
		unix.Close(fd)
		return -1, os.NewSyscallError("bind", err)
	}
	return fd, nil
}
