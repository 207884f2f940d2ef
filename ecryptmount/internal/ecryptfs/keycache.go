package ecryptfs

import (
	"bytes"
	"crypto/sha256"
	"slices"
	"sync"
)

// maxLate is the most file keys that are kept after the kernel stopped waiting.
const maxLate = 64

// A keyCache unwraps equal requests once if they come at the same time. It also keeps keys that
// were unwrapped too late, so that the next request for them is answered at once.
type keyCache struct {
	mu      sync.Mutex
	running map[digest]*unwrapCall
	late    map[digest][]byte
	order   []digest // keys of late, oldest first
}

// digest identifies a wrapped key.
type digest = [sha256.Size]byte

// An unwrapCall is an unwrap that is running.
type unwrapCall struct {
	done  chan struct{}
	users int
	key   []byte
	err   error
}

func newKeyCache() *keyCache {
	return &keyCache{running: make(map[digest]*unwrapCall), late: make(map[digest][]byte)}
}

// get returns the key that unwrap makes from wrapped. The caller clears it.
func (c *keyCache) get(wrapped []byte, unwrap func([]byte) ([]byte, error)) ([]byte, error) {
	name := sha256.Sum256(wrapped)
	c.mu.Lock()
	if key, ok := c.late[name]; ok {
		defer c.mu.Unlock()
		return bytes.Clone(key), nil
	}
	f, ok := c.running[name]
	if !ok {
		f = &unwrapCall{done: make(chan struct{})}
		c.running[name] = f
	}
	f.users++
	c.mu.Unlock()
	if ok {
		<-f.done
	} else {
		f.key, f.err = unwrap(wrapped)
		c.mu.Lock()
		delete(c.running, name)
		c.mu.Unlock()
		close(f.done)
	}
	return c.finish(f)
}

// finish returns a copy of the key to one user of a call, and clears it after the last one.
func (c *keyCache) finish(f *unwrapCall) ([]byte, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	key := bytes.Clone(f.key)
	if f.users--; f.users == 0 {
		clear(f.key)
	}
	return key, f.err
}

// keep stores a key that came too late.
func (c *keyCache) keep(wrapped, key []byte) {
	name := sha256.Sum256(wrapped)
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.late[name]; ok {
		return
	}
	if len(c.order) == maxLate {
		c.dropLocked(c.order[0])
	}
	c.late[name] = bytes.Clone(key)
	c.order = append(c.order, name)
}

// delivered removes a key that the kernel has received.
func (c *keyCache) delivered(wrapped []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.dropLocked(sha256.Sum256(wrapped))
}

// clear removes all keys.
func (c *keyCache) clear() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for len(c.order) > 0 {
		c.dropLocked(c.order[0])
	}
}

func (c *keyCache) dropLocked(name digest) {
	clear(c.late[name])
	delete(c.late, name)
	if i := slices.Index(c.order, name); i >= 0 {
		c.order = slices.Delete(c.order, i, i+1)
	}
}
