package transport

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"slices"

	"golang.org/x/sys/unix"
)

const socketTable = "/proc/net/unix"

// maxNames bounds what others can make this process remember.
const maxNames = 1 << 16

// living returns what living processes claim of this TPM, this one included,
// by kind and handle. After an error nothing that is loaded may be taken for
// left behind.
func (l *ledger) living() ([]Claim, error) {
	names, err := l.look()
	if err != nil {
		return nil, fmt.Errorf("find what processes have loaded: %w", err)
	}
	programs := map[int]string{}
	claims := make([]Claim, 0, len(names))
	for name := range names {
		if name.kind == agentKind || name.kind == markerKind || name.owner == l.owner && !l.has(name) {
			continue
		}
		pid := name.owner.pid
		if _, known := programs[pid]; !known {
			programs[pid] = Kernel{}.program(pid)
		}
		claims = append(claims, Claim{name.kind, name.handle, name.owner == l.owner, pid, programs[pid]})
	}
	slices.SortFunc(claims, func(a, b Claim) int {
		return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Handle, b.Handle), cmp.Compare(a.PID, b.PID))
	})
	return claims, nil
}

// has reports whether a claim of this ledger still is one. Where this process is
// starting a program, that has the sockets, too, for a moment, and keeps their names.
func (l *ledger) has(name socketName) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	_, claimed := l.claims[name]
	return claimed
}

// look returns the names of all sockets of the TPM. The kernel writes its table
// piece by piece and can skip a line when others before it vanish meanwhile; so
// a name counts that was in one of two tables. Both must have a marker, which
// shows that the table is of the namespace where names are bound.
func (l *ledger) look() (map[socketName]bool, error) {
	marker := socketName{kind: markerKind, owner: newOwner()}
	fd, err := bindName(l.id, marker)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	names := map[socketName]bool{}
	for good, tables := 0, 0; good < 2; tables++ {
		if tables == 5 {
			return nil, errors.New(socketTable + " does not list a socket of this process")
		}
		delete(names, marker)
		if err := readTable(l.id, names); err != nil {
			return nil, err
		}
		if names[marker] {
			good++
		}
	}
	delete(names, marker)
	return names, nil
}

func readTable(id string, names map[socketName]bool) error {
	table, err := os.Open(socketTable)
	if err != nil {
		return err
	}
	defer table.Close()
	err = parseSockets(table, id, func(name socketName) {
		if len(names) <= maxNames {
			names[name] = true
		}
	})
	switch {
	case err != nil:
		return fmt.Errorf("%s: %w", socketTable, err)
	case len(names) > maxNames:
		return fmt.Errorf("%s: more than %d claims of one TPM", socketTable, maxNames)
	}
	return nil
}
