package ecryptfs

import (
	"bytes"
	"crypto/sha256"
	"slices"
	"sync"
)

// maxLate is how many file keys are kept for kernels that gave up waiting.
const maxLate = 64

// answers has equal requests that come at the same time unwrapped once, and keeps
// what was unwrapped too late, so that the next request for it is answered at
// once, however slow the TPM.
type answers struct {
	mu      sync.Mutex
	running map[digest]*flight
	late    map[digest][]byte
	order   []digest // of late, oldest first
}

// digest names a wrapped key.
type digest = [sha256.Size]byte

// A flight is a key on its way out of the TPM.
type flight struct {
	done  chan struct{}
	users int
	key   []byte
	err   error
}

func newAnswers() *answers {
	return &answers{running: make(map[digest]*flight), late: make(map[digest][]byte)}
}

// get returns what unwrap makes of wrapped; the caller clears it.
func (a *answers) get(wrapped []byte, unwrap func([]byte) ([]byte, error)) ([]byte, error) {
	name := sha256.Sum256(wrapped)
	a.mu.Lock()
	if key, ok := a.late[name]; ok {
		defer a.mu.Unlock()
		return bytes.Clone(key), nil
	}
	f, ok := a.running[name]
	if !ok {
		f = &flight{done: make(chan struct{})}
		a.running[name] = f
	}
	f.users++
	a.mu.Unlock()
	if ok {
		<-f.done
	} else {
		f.key, f.err = unwrap(wrapped)
		a.mu.Lock()
		delete(a.running, name)
		a.mu.Unlock()
		close(f.done)
	}
	return a.leave(f)
}

// leave gives one user of a flight a copy of its key.
func (a *answers) leave(f *flight) ([]byte, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	key := bytes.Clone(f.key)
	if f.users--; f.users == 0 {
		clear(f.key)
	}
	return key, f.err
}

// keep remembers a key that came too late.
func (a *answers) keep(wrapped, key []byte) {
	name := sha256.Sum256(wrapped)
	a.mu.Lock()
	defer a.mu.Unlock()
	if _, ok := a.late[name]; ok {
		return
	}
	if len(a.order) == maxLate {
		a.dropLocked(a.order[0])
	}
	a.late[name] = bytes.Clone(key)
	a.order = append(a.order, name)
}

// delivered forgets a key that the kernel has now.
func (a *answers) delivered(wrapped []byte) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.dropLocked(sha256.Sum256(wrapped))
}

// clear forgets all keys.
func (a *answers) clear() {
	a.mu.Lock()
	defer a.mu.Unlock()
	for len(a.order) > 0 {
		a.dropLocked(a.order[0])
	}
}

func (a *answers) dropLocked(name digest) {
	clear(a.late[name])
	delete(a.late, name)
	if i := slices.Index(a.order, name); i >= 0 {
		a.order = slices.Delete(a.order, i, i+1)
	}
}
