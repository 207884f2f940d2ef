// Package keymgr loads keys into a TPM when they are used, keeps their secrets, and retries
// operations after errors. It serves both generations.
package keymgr

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"sync"
	"time"

	"maclef/internal/chip"
	"maclef/internal/contextcache"
	"maclef/internal/queue"
	"maclef/internal/transport"
)

// A Manager has an open TPM, and the keys that this process loads there.
type Manager struct {
	dev   Device
	chip  chip.Chip
	rules turnRules
	cache *contextcache.Cache // may be nil
	queue queue.Queue
	// closing is held while the TPM is being closed.
	closing sync.Mutex

	// What follows belongs to the operation that the queue let in.
	turn   *turn  // nil between turns
	opened uint64 // how often dev had been opened in the last turn
	// dirty says that something may be loaded in a bare TPM whose handle is not known.
	dirty  bool
	keys   map[*Key]struct{} // those not closed yet
	loaded slotCache
	idle   *time.Timer // see watchIdle; nil until it is needed
	// proved marks a parent's secret that the TPM has accepted, refused one that it has
	// refused; nil if none.
	proved, refused []byte
	salt            [32]byte // of marks
	closed          bool
}

// A Device is a way to a TPM: a *transport.Device.
type Device interface {
	Acquire(ctx context.Context, since time.Time) (release func(), err error)
	// Opened counts how often the TPM was opened or connected to, Connected reports
	// whether it is still, in a turn.
	Opened() uint64
	Connected() bool
	// Bare reports whether this process owns everything that is loaded during its turn.
	Bare() bool
	// Managed reports whether this is the kernel's resource manager.
	Managed() bool
	Name() string
	StopWaiting()
	Close() error
}

// New returns a Manager for a TPM that was opened just now. It owns dev. cache may be nil.
func New(dev Device, c chip.Chip, cache *contextcache.Cache) *Manager {
	m := &Manager{dev: dev, chip: c, cache: cache, rules: usualTurns, keys: make(map[*Key]struct{}), opened: dev.Opened()}
	rand.Read(m.salt[:])
	return m
}

// Chip returns the chip, for calls that send nothing and for functions that Run, RunOnce or
// Make runs.
func (m *Manager) Chip() chip.Chip { return m.chip }

// Close frees what was loaded into the TPM and closes it, after the operation that
// is under way; those that wait get ErrClosed. Its keys cannot be used afterwards.
func (m *Manager) Close() error {
	m.dev.StopWaiting()
	m.queue.Close()
	m.closing.Lock()
	defer m.closing.Unlock()
	if m.closed {
		return nil
	}
	m.closed = true
	if m.idle != nil {
		m.idle.Stop()
	}
	err := m.clear()
	if errors.Is(err, transport.ErrAway) {
		err = nil // what was loaded has gone with the TPM
	}
	for k := range m.keys { // those that no turn could be had for
		k.forget()
	}
	return errors.Join(err, m.dev.Close())
}

// clear closes every key that is still open, and takes all that is loaded out.
func (m *Manager) clear() error {
	var errs []error
	for k := range m.keys {
		err := k.shut()
		errs = append(errs, err)
		if err != nil && m.turn == nil { // the TPM cannot be had: one wait is enough
			return errors.Join(errs...)
		}
	}
	if m.dirty || m.turn == nil && m.holdsSessions() {
		if err := m.openTurn(&Work{Ctx: noLimit}); m.turn == nil {
			return errors.Join(append(errs, err)...)
		}
	}
	if m.turn != nil {
		m.chip.EndSessions(chip.EndAll)
		m.endTurn()
	}
	if m.dirty { // the connection was lost meanwhile
		errs = append(errs, m.openTurn(&Work{Ctx: noLimit}))
		m.endTurn()
	}
	return errors.Join(errs...)
}

// holdsSessions reports whether sessions of this process are, or may be, in the TPM.
func (m *Manager) holdsSessions() bool {
	open, more := m.chip.Sessions()
	return len(open) > 0 || more
}

// ForgetParents forgets the parents' secrets and empties the cache, because the TPM gets
// another SRK.
func (m *Manager) ForgetParents() {
	m.proved, m.refused = nil, nil
	m.cache.Empty()
}

func (m *Manager) errClosed() error { return fmt.Errorf("TPM %s: %w", m.dev.Name(), chip.ErrClosed) }
