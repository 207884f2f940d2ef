package keymgr

import (
	"context"
	"crypto"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"time"

	"maclef/blob"
	"maclef/internal/chip"
)

// A model is a TPM in memory, as far as the key manager sees one: places for keys and
// sessions, saved contexts, the count of wrong secrets, resets, one program at a time.
type model struct {
	random *rand.Rand
	gen    chip.Generation

	keyPlaces, sessionPlaces, savedPlaces int
	gap                                   int // how much older a saved session may be than the newest one

	start    int // of the TPM: contexts of an earlier one do not load
	started  bool
	told     bool // of the last reset
	secretIn bool // a counted secret was used since the start
	count    int  // of wrong secrets
	byItself int  // of those, counted for a restart without a warning

	keys     map[uint32]*modelKey
	sessions map[uint32]*modelSession
	saved    map[uint32]*modelSession
	contexts []*modelKey // keys in saved contexts
	saves    int         // of sessions: none may be much older than the newest one

	holder *modelDevice
	faults func(d *modelDevice, command string) modelFault
	step   func(d *modelDevice) // lets others run
	fail   func(format string, args ...any)
}

// A modelKey is a loaded key; owner is who loaded it.
type modelKey struct {
	id     int
	counts bool
	secret string
	owner  *modelDevice
}

// A modelSession authorizes one key, with what its secret is said to be, or all of them.
type modelSession struct {
	owner *modelDevice
	key   *modelKey
	auth  string
	age   int // when it was saved
}

// A modelFault is what happens to one command.
type modelFault int

const (
	noFault modelFault = iota
	cutBefore
	cutAfter
	killed     // the TPM is restarted without a warning, and the connection breaks
	unstarted  // it is reset, and nobody starts it up
	handleLost // the TPM says that what the command names is not there
	refusedLie // it says that a secret was wrong, which it has not looked at
	faultKinds
)

func newModel(random *rand.Rand, gen chip.Generation) *model {
	m := &model{
		random: random, gen: gen, keyPlaces: 3, sessionPlaces: 3, savedPlaces: 8, gap: 40, started: true,
		faults: func(*modelDevice, string) modelFault { return noFault }, step: func(*modelDevice) {},
	}
	m.reset(true)
	return m
}

// reset is what a restart does. A TPM 2.0 that was not warned counts a wrong secret if any
// secret was used.
func (m *model) reset(warned bool) {
	m.start++
	m.told = warned
	if !warned && m.secretIn && m.gen == chip.TPM20 {
		m.count++
		m.byItself++
	}
	m.secretIn = false
	m.keys, m.sessions, m.saved = map[uint32]*modelKey{}, map[uint32]*modelSession{}, map[uint32]*modelSession{}
	m.contexts = nil
	m.disconnect()
}

// disconnect breaks the connection of who has the TPM; the next one gets in at once.
func (m *model) disconnect() {
	if m.holder != nil {
		m.holder.connected, m.holder = false, nil
	}
}

// gapIsFull reports whether no session may be saved or started, because one is too old.
func (m *model) gapIsFull() bool {
	for _, s := range m.saved {
		if m.saves-s.age >= m.gap {
			return true
		}
	}
	return false
}

// noSessionSlot returns why the TPM cannot hold one more session.
func (m *model) noSessionSlot() chip.ErrClass {
	switch {
	case len(m.sessions) >= m.sessionPlaces:
		return chip.ClassNoSessionSlot
	case len(m.sessions)+len(m.saved) >= m.sessionPlaces+m.savedPlaces, m.gapIsFull():
		return chip.ClassTooManySaved
	}
	return chip.ClassNone
}

// handleIn is the lowest number that is free, as a TPM 2.0 gives them.
func handleIn[V any](all map[uint32]V, first uint32) uint32 {
	for h := first; ; h++ {
		if _, taken := all[h]; !taken {
			return h
		}
	}
}

// A modelDevice is one program's way to a model.
type modelDevice struct {
	*model
	connected bool
	opened    uint64
	dead      bool // the program was killed
	wrong     int  // secrets that the TPM has counted
}

var errModelGone = errors.New("the connection is lost")

func (d *modelDevice) Acquire(context.Context, time.Time) (func(), error) {
	for d.holder != nil && !d.dead {
		d.step(d)
	}
	if d.holder == d {
		panic("a program waits for itself")
	}
	if d.dead {
		return nil, errModelGone
	}
	d.holder, d.connected = d, true
	d.opened++
	return func() {
		if d.holder == d {
			d.checkEmpty()
			d.holder, d.connected = nil, false
		}
	}, nil
}

// checkEmpty checks that a program leaves nothing that it has loaded.
func (d *modelDevice) checkEmpty() {
	if d.dead || !d.connected {
		return
	}
	for h, k := range d.keys {
		if k.owner == d {
			d.fail("key %#x stays loaded after the turn", h)
		}
	}
	for h, s := range d.sessions {
		if s.owner == d {
			d.fail("session %#x stays loaded after the turn", h)
		}
	}
}

func (d *modelDevice) Opened() uint64  { return d.opened }
func (d *modelDevice) Connected() bool { return d.connected && d.holder == d }
func (d *modelDevice) Bare() bool      { return true }
func (d *modelDevice) Managed() bool   { return false }
func (d *modelDevice) Name() string    { return "model" }
func (d *modelDevice) StopWaiting()    {}
func (d *modelDevice) Close() error    { return nil }

// A modelError is an error with its class.
type modelError struct {
	class   chip.ErrClass
	command string
	secret  bool
}

func (e *modelError) Unwrap() error {
	if e.class == chip.ClassAuth {
		return chip.ErrWrongKeySecret
	}
	return nil
}

func (e *modelError) Error() string { return fmt.Sprintf("%s: error of class %d", e.command, e.class) }

// A modelChip is the model as one program's chip.
type modelChip struct {
	chip.Chip // what is not needed here is nil
	d         *modelDevice

	session uint32 // serves all keys, 0 if there is none
	own     map[uint32]bool
	stale   []uint32 // those that were closed, in the TPM still
}

// command lets others run, and has a fault happen to the command that f carries out.
func (c *modelChip) command(name string, secret bool, f func() chip.ErrClass) error {
	d := c.d
	d.step(d)
	fault := noFault
	if d.Connected() {
		fault = d.faults(d, name)
	}
	class, known := c.disturb(fault, name)
	switch {
	case known:
	case !d.Connected():
		class = chip.ClassNotSent
	case !d.started && name != "startUp":
		class = chip.ClassNotStarted
	default:
		class = f()
	}
	if fault == cutAfter {
		d.disconnect()
		class = chip.ClassUnanswered
	}
	if class != chip.ClassNone {
		return &modelError{class, name, secret}
	}
	return nil
}

// disturb has a fault happen; where that is an answer, it says so.
func (c *modelChip) disturb(fault modelFault, command string) (answer chip.ErrClass, is bool) {
	d := c.d
	switch fault {
	case cutBefore:
		d.disconnect()
	case killed:
		d.reset(false)
		return chip.ClassUnanswered, true
	case unstarted:
		d.reset(false)
		d.connected, d.holder, d.started = true, d, false // the connection holds
	case handleLost:
		return chip.ClassLost, command == "sign" || command == "signUncounted"
	case refusedLie: // of an uncounted secret nothing says otherwise
		return chip.ClassAuth, command == "sign"
	}
	return chip.ClassNone, false
}

func (c *modelChip) Generation() chip.Generation { return c.d.gen }

func (c *modelChip) ClassOf(err error) chip.ErrClass {
	var of *modelError
	switch {
	case err == nil:
		return chip.ClassNone
	case errors.As(err, &of):
		return of.class
	case errors.Is(err, chip.ErrClosed):
		return chip.ClassUnavailable
	}
	return chip.ClassRefused
}

// SecretTried is for chip.SecretTried.
func (e *modelError) SecretTried() bool { return e.class != chip.ClassUnanswered || e.secret }

func (c *modelChip) State() (*chip.State, error) { return &chip.State{Owned: true}, nil }

// A modelPublic is the public half of a model's key, its number.
type modelPublic int

func (p modelPublic) Equal(other crypto.PublicKey) bool { return p == other }

// modelFile is a key file of a model.
func modelFile(id int, secret []byte, counts bool) *blob.TPMKey {
	k := &blob.TPMKey{Modulus: []byte{byte(id)}, EncData: secret}
	if counts {
		k.Flags = 1
	}
	return k
}

// load authorizes the parent by the session that serves all keys.
func (c *modelChip) Load(k blob.Key, _ chip.AuthData) (in chip.LoadedKey, err error) {
	file := k.(*blob.TPMKey)
	if err := c.Prepare(k, true); err != nil {
		return nil, err
	}
	err = c.command("load", false, func() chip.ErrClass {
		beside := 1 // a TPM 2.0 has the parent loaded, too
		if c.d.gen == chip.TPM12 {
			beside = 0
		}
		if len(c.d.keys)+beside >= c.d.keyPlaces {
			return chip.ClassNoKeySlot
		}
		in = c.put(modelKey{id: int(file.Modulus[0]), secret: string(file.EncData), counts: file.Flags != 0})
		return chip.ClassNone
	})
	return in, err
}

func (c *modelChip) put(k modelKey) chip.LoadedKey {
	k.owner = c.d
	h := handleIn(c.d.keys, 0x80000000)
	c.d.keys[h] = &k
	return &modelLoaded{c, h, nil}
}

// A key's saved context says which start of the TPM it is of, and which key.
func (l *modelLoaded) Save() (saved chip.Context, err error) {
	d := l.c.d
	err = l.c.command("save", false, func() chip.ErrClass {
		if d.keys[l.handle] == nil {
			return chip.ClassLost
		}
		d.contexts = append(d.contexts, d.keys[l.handle])
		saved.Data = binary.BigEndian.AppendUint32(nil, uint32(d.start))
		saved.Data = binary.BigEndian.AppendUint32(saved.Data, uint32(len(d.contexts)-1))
		return chip.ClassNone
	})
	return saved, err
}

func (c *modelChip) Restore(_ blob.Key, _ chip.LoadedKey, saved []byte) (in chip.LoadedKey, err error) {
	err = c.command("restore", false, func() chip.ErrClass {
		start, at := binary.BigEndian.Uint32(saved), binary.BigEndian.Uint32(saved[4:])
		switch {
		case int(start) != c.d.start:
			return chip.ClassRefused
		case len(c.d.keys) >= c.d.keyPlaces:
			return chip.ClassNoKeySlot
		}
		in = c.put(*c.d.contexts[at])
		return chip.ClassNone
	})
	return in, err
}

// Prepare starts the session that serves all keys.
func (c *modelChip) Prepare(_ blob.Key, secret bool) error {
	if !secret || c.session != 0 {
		return nil
	}
	h, err := c.startSession(modelSession{})
	c.session = h
	return err
}

// startSession starts one; on a TPM 2.0 what it is salted to takes a slot meanwhile.
func (c *modelChip) startSession(s modelSession) (h uint32, err error) {
	c.flushStale()
	err = c.command("startSession", false, func() chip.ErrClass {
		if c.d.gen == chip.TPM20 && len(c.d.keys) >= c.d.keyPlaces {
			return chip.ClassNoKeySlot
		}
		if full := c.d.noSessionSlot(); full != chip.ClassNone {
			return full
		}
		for h = 0x02000000; c.d.sessions[h] != nil || c.d.saved[h] != nil; h++ {
		}
		s.owner = c.d
		c.d.sessions[h] = &s
		c.own[h] = true
		return chip.ClassNone
	})
	return h, err
}

func (c *modelChip) ReadTries(k blob.Key, ofParent, _ bool) (now *chip.Tries, err error) {
	if c.d.gen == chip.TPM20 && (ofParent || k.(*blob.TPMKey).Flags == 0) {
		return new(chip.Tries), nil
	}
	err = c.command("readTries", false, func() chip.ErrClass {
		now = &chip.Tries{Counts: true, Known: true, Count: c.d.count}
		if c.d.gen == chip.TPM20 {
			now.Resets, now.Announced = c.d.start, c.d.told
		}
		return chip.ClassNone
	})
	return now, err
}

func (c *modelChip) StartUp() error {
	return c.command("startUp", false, func() chip.ErrClass {
		if c.d.started {
			return chip.ClassNotStarted
		}
		c.d.started = true
		return chip.ClassNone
	})
}

func (c *modelChip) Sessions() ([]uint32, bool) { return slices.Sorted(maps.Keys(c.own)), false }

func (c *modelChip) EndSessions(how chip.Ending) bool {
	switch how {
	case chip.Forget:
		c.session, c.own = 0, map[uint32]bool{}
	case chip.EndAll:
		c.flushStale()
		if c.session != 0 {
			c.flushSession(c.session)
			c.session = 0
		}
	}
	return how != chip.EndIfSeveral
}

func (c *modelChip) Loaded(kind chip.Kind) (handles []uint32, err error) {
	err = c.command("loaded", false, func() chip.ErrClass {
		switch kind {
		case chip.Keys:
			handles = slices.Sorted(maps.Keys(c.d.keys))
		case chip.Sessions:
			handles = slices.Sorted(maps.Keys(c.d.sessions))
		default:
			handles = slices.Sorted(maps.Keys(c.d.saved))
		}
		return chip.ClassNone
	})
	return handles, err
}

func (c *modelChip) Flush(kind chip.Kind, h uint32) error {
	switch kind {
	case chip.Keys:
		return c.flushKey(h)
	case chip.Sessions:
		return c.flushSession(h)
	}
	return c.command("flushSaved", false, func() chip.ErrClass {
		delete(c.d.saved, h)
		return chip.ClassNone
	})
}

// flushKey ends the sessions of a key of TPM 1.2 with it, those of all that are loaded of
// the same.
func (c *modelChip) flushKey(h uint32) error {
	return c.command("flushKey", false, func() chip.ErrClass {
		for number, s := range c.d.sessions {
			if k := c.d.keys[h]; c.d.gen == chip.TPM12 && s.key != nil && k != nil && s.key.id == k.id {
				delete(c.d.sessions, number)
			}
		}
		delete(c.d.keys, h)
		return chip.ClassNone
	})
}

func (c *modelChip) flushSession(h uint32) error {
	err := c.command("flushSession", false, func() chip.ErrClass {
		delete(c.d.sessions, h)
		return chip.ClassNone
	})
	if err == nil {
		delete(c.own, h)
	}
	return err
}

// A modelLoaded is a loaded key of a program, with a session of its own or without one.
type modelLoaded struct {
	c       *modelChip
	handle  uint32
	session *modelOwn
}

// sign signs by a session: that of all keys, with the secret, or the key's own. What has
// the handle signs, whatever it is.
func (l *modelLoaded) sign(area []byte, secret chip.AuthData) (result []byte, err error) {
	c, by := l.c, uint32(0)
	switch {
	case l.session != nil && l.session.alive:
		by = l.session.number
	case secret != nil:
		by = c.session
	}
	name := "sign"
	if k := c.d.keys[l.handle]; k != nil && !k.counts {
		name = "signUncounted"
	}
	err = c.command(name, by != 0, func() chip.ErrClass {
		k, auth := c.d.keys[l.handle], string(secret)
		if by != 0 {
			session := c.d.sessions[by]
			if session == nil {
				return chip.ClassLost
			}
			if session.key != nil {
				auth = session.auth
			}
		}
		if k == nil {
			return chip.ClassLost
		}
		class := c.d.use(k, auth, func() { result = modelSignature(k.id, area) })
		if class == chip.ClassAuth && c.d.gen == chip.TPM12 { // which ends the session
			l.lose(by)
		}
		return class
	})
	return result, err
}

// lose notes that a session is not in the TPM any more.
func (l *modelLoaded) lose(session uint32) {
	delete(l.c.d.sessions, session)
	delete(l.c.own, session)
	if l.c.session == session {
		l.c.session = 0
	}
	if l.session != nil && l.session.number == session {
		l.session.alive = false
	}
}

// use uses a loaded key with a secret, at which the TPM looks.
func (d *modelDevice) use(k *modelKey, auth string, f func()) chip.ErrClass {
	d.secretIn = d.secretIn || k.counts
	if k.secret != auth {
		if k.counts {
			d.count++
			d.wrong++
		}
		return chip.ClassAuth
	}
	f()
	return chip.ClassNone
}

func modelSignature(id int, area []byte) []byte { return append([]byte{byte(id)}, area...) }

func (l *modelLoaded) Authorize(secret chip.AuthData) (chip.Session, error) {
	key := l.c.d.keys[l.handle]
	h, err := l.c.startSession(modelSession{key: key, auth: string(secret)})
	if err != nil {
		return nil, err
	}
	l.session = &modelOwn{c: l.c, number: h, alive: true}
	return l.session, nil
}

func (l *modelLoaded) Resume(s chip.Session) error {
	l.session = s.(*modelOwn)
	return l.session.restore(l.handle)
}

func (l *modelLoaded) Handle() uint32 { return l.handle }

// A modelOwn is a key's own session.
type modelOwn struct {
	c            *modelChip
	number       uint32
	start, age   int // of the TPM, and of the session, when it was saved
	alive, saved bool
}

func (s *modelOwn) State() (chip.SessionState, uint32) {
	switch {
	case s.alive:
		return chip.SessionLoaded, 0
	case s.saved:
		return chip.SessionSaved, s.number
	}
	return chip.SessionGone, 0
}

func (s *modelOwn) Save() error {
	d := s.c.d
	err := s.c.command("saveSession", false, func() chip.ErrClass {
		in := d.sessions[s.number]
		switch {
		case in == nil:
			return chip.ClassLost
		case d.gapIsFull(), len(d.saved) >= d.savedPlaces:
			return chip.ClassTooManySaved
		}
		d.saves++
		in.age = d.saves
		d.saved[s.number] = in
		delete(d.sessions, s.number)
		s.start, s.age = d.start, d.saves
		return chip.ClassNone
	})
	if err == nil {
		s.alive, s.saved = false, true
		delete(s.c.own, s.number)
	}
	return err
}

// restore brings back a session, for a key that is loaded.
func (s *modelOwn) restore(key uint32) error {
	d := s.c.d
	s.c.flushStale()
	err := s.c.command("restoreSession", false, func() chip.ErrClass {
		in := d.saved[s.number]
		switch {
		case s.start != d.start, in == nil || in.age != s.age: // flushed meanwhile, whoever has the number now
			return chip.ClassRefused
		case len(d.sessions) >= d.sessionPlaces:
			return chip.ClassNoSessionSlot
		}
		in.key = d.keys[key]
		d.sessions[s.number] = in
		delete(d.saved, s.number)
		return chip.ClassNone
	})
	if err == nil {
		s.alive, s.saved = true, false
		s.c.own[s.number] = true
	}
	return err
}

// Close leaves a session that is loaded to who needs its slot.
func (s *modelOwn) Close() {
	if s.alive {
		s.c.stale = append(s.c.stale, s.number)
	}
	s.alive, s.saved = false, false
}

func (c *modelChip) flushStale() {
	for _, h := range c.stale {
		if c.own[h] {
			c.flushSession(h)
		}
	}
	c.stale = nil
}
