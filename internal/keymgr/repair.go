package keymgr

import (
	"errors"
	"time"

	"maclef/blob"
	"maclef/internal/chip"
)

// maxRepairs is how many errors one operation recovers from. Other programs may disturb it
// more than once.
const maxRepairs = 8

// maxAsking is how often one operation needs a secret that it has not. It asks the user at most
// once for each secret; the other times another operation has asked, and the session that it
// opened was lost again.
const maxAsking = 16

// A recovery is what to do about an error of a class.
type recovery struct {
	// times is how often it is done in one operation.
	times int
	// apply prepares another attempt, or returns the error that ends the operation.
	apply func(p *task, err error) error
}

// recoveryFor has a recovery for each class; an error of another class ends the operation.
func recoveryFor(class chip.ErrClass) recovery {
	switch class {
	case chip.ClassLost:
		return recovery{4, (*task).startOver}
	case chip.ClassAuth, chip.ClassBadResult:
		return recovery{1, (*task).loadAnew}
	case chip.ClassNoKeySlot, chip.ClassNoSessionSlot:
		return recovery{6, (*task).freeSlot}
	case chip.ClassTooManySaved:
		return recovery{2, (*task).freeSlot}
	case chip.ClassNotStarted:
		return recovery{2, (*task).startUp}
	case chip.ClassNotSent:
		return recovery{4, (*task).sendAgain}
	case chip.ClassNextPolicy:
		return recovery{maxRepairs, (*task).sendAgain}
	case chip.ClassUnanswered:
		return recovery{1, (*task).repeat}
	case chip.ClassSecretNeeded:
		return recovery{maxAsking, (*task).ask}
	}
	return recovery{}
}

// A needed error says that a secret must be asked for.
type needed struct{ ofParent bool }

func (n *needed) Error() string { return "a secret must be asked for" }

// A task is work in progress, with its secrets.
type task struct {
	tpm     *Manager
	work    *Work
	state   *opState
	with    *secrets
	entered bool          // the queue has let it in
	asking  *secretSource // the secret that this operation asks for; nil if it asks for none
	repairs map[chip.ErrClass]int
	all     int // the sum of repairs

	turn *turn // of the last attempt; nil if the TPM was started up since
	// parentTried and keyTried say which secret the last attempt used for the first time,
	// before what the TPM had counted until then. before is nil if the secret was accepted
	// earlier. emptyTried says that it used the empty secret, which costs nothing, before one is
	// asked for.
	parentTried, keyTried bool
	before                *chip.Tries
	emptyTried            bool
}

// perform does work. It is the only loop that retries an operation; package tpmconn resends a
// command while the TPM is busy.
func (m *Manager) perform(w *Work, state *opState) (result []byte, err error) {
	p := &task{tpm: m, work: w, state: state, with: new(secrets), repairs: map[chip.ErrClass]int{}}
	defer p.end()
	p.with.refresh(w.Key)
	for again := true; again; {
		if err = p.enter(); err != nil {
			return nil, err
		}
		result, err = p.attempt()
		if err == nil {
			err = p.checkAccepted()
		}
		if err == nil && w.Op != nil && w.Op.Verify != nil {
			p.leave()
			err = w.Op.Verify(result)
		}
		again = false
		if err != nil {
			again, err = p.repair(err)
		}
	}
	err = p.markDefaultSecret(err)
	w.Key.recordResult(p, err)
	if err != nil {
		return nil, err
	}
	return result, nil
}

func (p *task) end() {
	p.leave()
	p.asking.doneAsking()
	p.with.clear()
}

func (p *task) enter() error {
	if p.entered {
		return nil
	}
	err := p.tpm.enter(p.work.Ctx, p.work.Alive)
	p.entered = err == nil
	return err
}

func (p *task) leave() {
	if p.entered {
		p.entered = false
		p.tpm.leave()
	}
}

// attempt does the work once.
func (p *task) attempt() ([]byte, error) {
	m := p.tpm
	p.parentTried, p.keyTried, p.before, p.emptyTried = false, false, nil, false
	if h := p.work.Key; h != nil {
		if err := h.usable(); err != nil {
			return nil, &noTurn{err}
		}
	}
	if p.work.Alone {
		m.endTurn()
	}
	err := m.openTurn(p.work)
	p.turn = m.turn
	if err != nil {
		return nil, err
	}
	if !p.state.becomes(underWay) {
		return nil, &noTurn{p.work.Ctx.Err()}
	}
	loading := time.Now()
	in, secret, err := p.load()
	began := time.Now()
	m.turn.loading += began.Sub(loading)
	m.turn.operation(began, p.work.Alone) // failed attempts count, too, or they would keep other programs out
	if err != nil {
		return nil, err
	}
	switch {
	case p.work.Func != nil:
		return nil, p.work.Func()
	case p.work.Op == nil:
		return nil, nil
	}
	result, err := p.run(in, secret)
	if err == nil {
		p.work.Key.recalled = false
	}
	return result, err
}

// run runs the operation. If its plaintext must be a session key, the secret is proved by another
// command first: otherwise the time that checkTries takes would show whether the ciphertext was good.
func (p *task) run(in chip.LoadedKey, secret chip.AuthData) ([]byte, error) {
	op, h := p.work.Op, p.work.Key
	if p.before != nil && op.SessionKeyLen > 0 && !h.Ops.CheckAuth.ByCode {
		if _, err := h.Ops.CheckAuth.Run(in, secret); err != nil {
			return nil, err
		}
		h.markProved()
		p.keyTried, p.before = false, nil
	}
	return op.Run(in, secret)
}

// load loads the work's key and returns its secret.
func (p *task) load() (in chip.LoadedKey, secret chip.AuthData, err error) {
	m, h := p.tpm, p.work.Key
	if h == nil {
		return nil, nil, nil
	}
	if err := m.chip.Prepare(h.file, h.needsSecret && h.secret.kept()); err != nil {
		return nil, nil, err
	}
	if h.in == nil && h.context == nil && p.with.parent != nil && !m.hasProved(h.parent(), p.with.parent) {
		if p.before, err = m.readTries(h.file, true); err != nil {
			return nil, nil, err
		}
		p.parentTried = true
	}
	if in, err = m.ensureLoaded(h, p.with); err != nil || p.work.Op == nil {
		return nil, nil, err
	}
	p.parentTried, p.before = false, nil
	secret, err = p.authorization(in)
	return in, secret, err
}

// authorization returns the secret for a loaded key. It is nil for a key without a secret or
// with a session of its own.
func (p *task) authorization(in chip.LoadedKey) (secret chip.AuthData, err error) {
	h := p.work.Key
	if !h.needsSecret && !h.emptyCounts || h.isProved() && (h.authorized() || !h.needsSecret) {
		return nil, nil
	}
	var before *chip.Tries
	// An earlier attempt opened the session, and no operation has succeeded since; or the file says
	// that there is no secret, and may be wrong.
	if h.authorized() || !h.needsSecret {
		if before, err = p.tpm.readTries(h.file, false); err == nil {
			p.keyTried, p.before = true, before
		}
		return nil, err
	}
	if p.with.key == nil || !h.isProved() { // before a secret is asked for or tried
		if before, err = p.tpm.readTries(h.file, false); err != nil {
			return nil, err
		}
	}
	switch {
	case p.with.key != nil:
	case before.EmptyFree && !h.isNotEmpty():
		p.emptyTried = true
		return chip.AuthData{}, nil
	default:
		return nil, &needed{}
	}
	secret = p.with.key
	if !h.secret.kept() {
		session, err := in.Authorize(secret)
		switch {
		case err == nil:
			h.session, secret = session, nil
		case err != chip.ErrNoOwnSession:
			return nil, err
		}
	}
	p.keyTried, p.before = true, before
	return secret, nil
}

// readTries reads what the TPM counts. It returns ErrLockedOut if the TPM would not check a
// secret.
func (m *Manager) readTries(file blob.Key, ofParent bool) (*chip.Tries, error) {
	now, err := m.chip.ReadTries(file, ofParent, false)
	if err == nil && now.Locked != nil {
		return nil, now.Locked
	}
	return now, err
}

// repair recovers from an error and reports whether to try again. If not, why is the error
// of the operation.
func (p *task) repair(err error) (again bool, why error) {
	class := p.class(err)
	if p.emptyTried && class == chip.ClassAuth {
		p.work.Key.markNotEmpty()
		return true, nil
	}
	if class == chip.ClassUnanswered && p.tpm.turn != nil && p.tpm.dev.Bare() {
		p.tpm.abandonTurn() // it is not known what is loaded now
	}
	if notTried := class == chip.ClassNotSent || class == chip.ClassUnavailable || class == chip.ClassSecretNeeded; !notTried && p.before != nil {
		if again, err = p.checkTries(class, err); !again {
			return false, err
		}
	}
	if h := p.work.Key; class == chip.ClassRefused && h != nil && h.recalled && !errors.Is(err, chip.ErrDecryption) {
		class = chip.ClassBadResult
	}
	r := recoveryFor(class)
	if p.repairs[class] == r.times || p.all == maxRepairs && class != chip.ClassSecretNeeded {
		return false, err
	}
	p.repairs[class]++
	if class != chip.ClassSecretNeeded { // that is no disturbance
		p.all++
	}
	err = r.apply(p, err)
	return err == nil, err
}

func (p *task) class(err error) chip.ErrClass {
	var none *noTurn
	var lacks *needed
	switch {
	case errors.As(err, &none):
		return chip.ClassUnavailable
	case errors.As(err, &lacks):
		return chip.ClassSecretNeeded
	case errors.Is(err, chip.ErrBadSignature):
		return chip.ClassBadResult
	}
	return p.tpm.chip.ClassOf(err)
}

// startOver has everything loaded again.
func (p *task) startOver(err error) error {
	p.tpm.startOver(p.work.Key, err)
	return nil
}

// loadAnew has the key loaded from its file, with a new session: something else may be
// loaded under its handle, or the session's nonces may be out of step. It is for secrets
// that were accepted before, and for those that the TPM has not counted as wrong.
func (p *task) loadAnew(err error) error {
	h := p.work.Key
	if h == nil || p.enter() != nil || p.tpm.openTurn(p.work) != nil {
		return err
	}
	p.tpm.startOver(h, err)
	h.context, h.recalled = nil, false
	p.tpm.cache.Remove(h.entry)
	return nil
}

func (p *task) freeSlot(err error) error {
	if p.turn == p.tpm.turn && !p.tpm.freeSlot(p.class(err), p.work.Key) {
		return err
	}
	return nil // the slots of an earlier turn do not matter any more
}

// startUp starts a TPM that nobody has started since it got power: after a failed suspend,
// or in swtpm without --flags startup-clear. If it fails, the next attempt fails, too.
func (p *task) startUp(error) error {
	if p.tpm.chip.ClassOf(p.tpm.chip.StartUp()) == chip.ClassNone {
		p.tpm.noteAllUnloaded()
		p.turn = nil // nothing is loaded any more
	}
	return nil
}

// sendAgain does nothing: the next attempt makes a new connection, or runs another policy.
func (p *task) sendAgain(error) error { return nil }

// repeat has a command repeated that may have been carried out: signing twice does no harm.
func (p *task) repeat(err error) error {
	if p.work.Once {
		return err
	}
	return nil
}

// ask asks for a secret, outside the turn. If another operation is asking for the same
// secret, it waits for that instead.
func (p *task) ask(err error) error {
	var lacks *needed
	errors.As(err, &lacks)
	h := p.work.Key
	source := h.secret
	if lacks.ofParent {
		source = h.parentSecret
	}
	p.leave()
	if p.asking != source {
		p.asking.doneAsking()
		p.asking = nil
		if err := source.startAsking(p.work.Ctx); err != nil {
			return err
		}
		p.asking = source
		p.with.refresh(h)
		if p.with.has(lacks.ofParent) || !source.kept() { // the other operation may have opened a session
			return nil
		}
	}
	return p.fill(source, lacks.ofParent)
}

// fill asks for a secret and stores it.
func (p *task) fill(source *secretSource, ofParent bool) error {
	auth, err := source.ask()
	if err != nil {
		return err
	}
	if err := p.work.Key.usable(); err != nil { // closed meanwhile
		clear(auth)
		source.forget()
		return err
	}
	if ofParent {
		p.with.parent = auth
	} else {
		p.with.key = auth
		p.work.Key.markUnproved()
	}
	return nil
}
