package keymgr

import (
	"errors"
	"time"

	"maclef/blob"
	"maclef/internal/chip"
)

// maxRepairs is how much is done for one operation. What others do to the TPM may hit it
// more than once.
const maxRepairs = 8

// A remedy is what an error of a class is worth.
type remedy struct {
	// times is how often it is worth that in one operation.
	times int
	// apply makes ready for another attempt, or says why there is none.
	apply func(p *task, err error) error
}

// remedies says it for all classes; those that are not here are given up.
func remedies(class chip.ErrClass) remedy {
	switch class {
	case chip.ClassLost:
		return remedy{4, (*task).startOver}
	case chip.ClassAuth, chip.ClassBadResult:
		return remedy{1, (*task).loadAnew}
	case chip.ClassKeyRoom, chip.ClassSessionRoom:
		return remedy{6, (*task).makeRoom}
	case chip.ClassSavedRoom:
		return remedy{2, (*task).makeRoom}
	case chip.ClassNotStarted:
		return remedy{2, (*task).startUp}
	case chip.ClassNotSent:
		return remedy{4, (*task).sendAgain}
	case chip.ClassUnanswered:
		return remedy{1, (*task).repeat}
	case chip.ClassSecretNeeded:
		return remedy{4, (*task).ask}
	}
	return remedy{}
}

// A needed error is a secret that an operation lacks.
type needed struct{ ofParent bool }

func (n *needed) Error() string { return "a secret must be asked for" }

// A task is one piece of work while it is done, with the secrets for it.
type task struct {
	tpm     *Manager
	work    *Work
	state   *opState
	with    *secrets
	entered bool          // it has the TPM, as far as this process is concerned
	asking  *secretSource // where this is the operation that asks
	repairs map[chip.ErrClass]int
	all     int // of repairs

	turn *turn // of the last attempt, unless the TPM was started up since
	// What that tried: the parent's or the key's secret, and what the TPM
	// counted before, nil where the secret was right before.
	parentTried, keyTried bool
	before                *chip.Tries
}

// perform does work. It is the one place where anything is done again.
func (m *Manager) perform(w *Work, state *opState) (result []byte, err error) {
	p := &task{tpm: m, work: w, state: state, with: new(secrets), repairs: map[chip.ErrClass]int{}}
	defer p.end()
	p.with.refresh(w.Key)
	for again := true; again; {
		if err = p.enter(); err != nil {
			return nil, err
		}
		result, err = p.attempt()
		if err == nil && w.Op != nil && w.Op.Verify != nil {
			p.leave()
			err = w.Op.Verify(result)
		}
		again = false
		if err != nil {
			again, err = p.repair(err)
		}
	}
	w.Key.noteSecrets(p, err)
	if err != nil {
		return nil, err
	}
	return result, nil
}

func (p *task) end() {
	p.leave()
	p.asking.answered()
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

// attempt is one try.
func (p *task) attempt() ([]byte, error) {
	m := p.tpm
	p.parentTried, p.keyTried, p.before = false, false, nil
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
	bringing := time.Now()
	in, secret, err := p.bring()
	began := time.Now()
	m.turn.brought += began.Sub(bringing)
	m.turn.operation(began, p.work.Alone) // one that fails here, too: else such keep others out
	if err != nil {
		return nil, err
	}
	switch {
	case p.work.Func != nil:
		return nil, p.work.Func()
	case p.work.Op == nil:
		return nil, nil
	}
	result, err := p.work.Op.Run(in, secret)
	if err == nil {
		p.work.Key.recalled = false
	}
	return result, err
}

// bring has the work's key loaded, and its secret at hand.
func (p *task) bring() (in chip.LoadedKey, secret chip.AuthData, err error) {
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
	if in, err = m.bringIn(h, p.with); err != nil || p.work.Op == nil {
		return nil, nil, err
	}
	p.parentTried, p.before = false, nil
	secret, err = p.authorization(in)
	return in, secret, err
}

// authorization returns the secret to use a loaded key with, nil for a key without
// one or with a session of its own.
func (p *task) authorization(in chip.LoadedKey) (secret chip.AuthData, err error) {
	h := p.work.Key
	if !h.needsSecret || h.authorized() && h.isProved() {
		return nil, nil
	}
	var before *chip.Tries
	if h.authorized() { // by an earlier attempt, and never used with success
		if before, err = p.tpm.readTries(h.file, false); err == nil {
			p.keyTried, p.before = true, before
		}
		return nil, err
	}
	if p.with.key == nil || !h.isProved() { // before anybody is asked
		if before, err = p.tpm.readTries(h.file, false); err != nil {
			return nil, err
		}
	}
	if p.with.key == nil {
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

// readTries is what the TPM counts, or chip.ErrLockedOut where it would not look at a secret.
func (m *Manager) readTries(file *blob.Key, ofParent bool) (*chip.Tries, error) {
	now, err := m.chip.ReadTries(file, ofParent, false)
	if err == nil && now.Locked != nil {
		return nil, now.Locked
	}
	return now, err
}

// repair does what an error calls for, and reports whether to try again; if not, the
// error may say more.
func (p *task) repair(err error) (again bool, why error) {
	class := p.class(err)
	if class == chip.ClassUnanswered && p.tpm.turn != nil && p.tpm.dev.Bare() {
		p.tpm.abandonTurn() // what is loaded now is not known
	}
	if notTried := class == chip.ClassNotSent || class == chip.ClassUnavailable || class == chip.ClassSecretNeeded; !notTried && p.before != nil {
		if again, err = p.checkTries(class, err); !again {
			return false, err
		}
	}
	if h := p.work.Key; class == chip.ClassRefused && h != nil && h.recalled && !errors.Is(err, chip.ErrDecryption) {
		class = chip.ClassBadResult
	}
	cure := remedies(class)
	if p.repairs[class] == cure.times || p.all == maxRepairs {
		return false, err
	}
	p.repairs[class]++
	p.all++
	err = cure.apply(p, err)
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

// startOver loads everything again.
func (p *task) startOver(err error) error {
	p.tpm.startOver(p.work.Key, err)
	return nil
}

// loadAnew loads the key from its file, and uses a new session: what is loaded may be
// another key, and the session's nonces may be out of step. A secret that was right before
// is worth that, and one that the TPM has not counted.
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

func (p *task) makeRoom(err error) error {
	if p.turn == p.tpm.turn && !p.tpm.makeRoom(p.class(err), p.work.Key) {
		return err
	}
	return nil // the room of an earlier turn says nothing of this one
}

// startUp starts a TPM that nobody has started since its power came back: after a
// suspend that went wrong, or in swtpm without --flags startup-clear. Where it fails, the
// next attempt shows what it is.
func (p *task) startUp(error) error {
	if p.tpm.chip.ClassOf(p.tpm.chip.StartUp()) == chip.ClassNone {
		p.tpm.forgetLoaded()
		p.turn = nil // nothing is as it was
	}
	return nil
}

// sendAgain has nothing to do: the next attempt makes a new connection.
func (p *task) sendAgain(error) error { return nil }

// repeat repeats what may have been carried out: signing twice does no harm.
func (p *task) repeat(err error) error {
	if p.work.Once {
		return err
	}
	return nil
}

// ask asks for a secret, outside the turn. Somebody else may be answering the same
// question: then that is waited for.
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
		p.asking.answered()
		p.asking = nil
		if err := source.question(p.work.Ctx); err != nil {
			return err
		}
		p.asking = source
		p.with.refresh(h)
		if p.with.has(lacks.ofParent) || !source.kept() { // somebody else's answer may have made a session
			return nil
		}
	}
	return p.fill(source, lacks.ofParent)
}

// fill has a secret that was asked for.
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
