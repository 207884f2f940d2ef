package tpmkey

import (
	"errors"
	"time"

	"maclef/blob"
)

// An errClass is what an error means for what is loaded in a TPM, and so what may be done
// about it.
type errClass int

const (
	classNone         errClass = iota
	classRefused               // for any other reason; nothing was changed
	classAuth                  // a secret was refused
	classKeyRoom               // all places for keys are taken
	classSessionRoom           // all places for sessions are taken
	classSavedRoom             // the TPM knows too many saved sessions, or one that is too old
	classLost                  // a key or session is not there: it was flushed, or its handle is wrong
	classNotStarted            // somebody must start the TPM up
	classNotSent               // the command did not reach it
	classUnanswered            // nobody knows whether the command was carried out
	classUnavailable           // the TPM could not be had, or is closed
	classSecretNeeded          // a secret must be asked for
	classBadResult             // the result is not one of this key
)

// maxRepairs is how much is done for one operation. What others do to the TPM may hit it
// more than once.
const maxRepairs = 8

// A remedy is what an error of a class is worth.
type remedy struct {
	// times is how often it is worth that in one operation.
	times int
	// apply makes ready for another attempt, or says why there is none.
	apply func(p *performance, err error) error
}

// remedies says it for all classes; those that are not here are given up.
func remedies(class errClass) remedy {
	switch class {
	case classLost:
		return remedy{4, (*performance).startOver}
	case classAuth, classBadResult:
		return remedy{1, (*performance).loadAnew}
	case classKeyRoom, classSessionRoom:
		return remedy{6, (*performance).makeRoom}
	case classSavedRoom:
		return remedy{2, (*performance).makeRoom}
	case classNotStarted:
		return remedy{2, (*performance).startUp}
	case classNotSent:
		return remedy{4, (*performance).sendAgain}
	case classUnanswered:
		return remedy{1, (*performance).repeat}
	case classSecretNeeded:
		return remedy{4, (*performance).ask}
	}
	return remedy{}
}

// A needed error is a secret that an operation lacks.
type needed struct{ ofParent bool }

func (n *needed) Error() string { return "a secret must be asked for" }

// A performance is one piece of work while it is done, with the secrets for it.
type performance struct {
	tpm     *TPM
	work    *work
	fate    *fate
	with    *secrets
	entered bool          // it has the TPM, as far as this process is concerned
	asking  *secretSource // where this is the operation that asks
	repairs map[errClass]int
	all     int // of repairs

	turn *turn // of the last attempt, unless the TPM was started up since
	// What that tried: the parent's or the key's secret, and what the TPM
	// counted before, nil where the secret was right before.
	parentTried, keyTried bool
	before                *tries
}

// perform does work. It is the one place where anything is done again.
func (t *TPM) perform(w *work, f *fate) (result []byte, err error) {
	p := &performance{tpm: t, work: w, fate: f, with: new(secrets), repairs: map[errClass]int{}}
	defer p.end()
	p.with.refresh(w.key)
	for again := true; again; {
		if err = p.enter(); err != nil {
			return nil, err
		}
		result, err = p.attempt()
		if err == nil && w.verify != nil {
			p.leave()
			err = w.verify(result)
		}
		again = false
		if err != nil {
			again, err = p.repair(err)
		}
	}
	w.key.noteSecrets(p, err)
	if err != nil {
		return nil, err
	}
	return result, nil
}

func (p *performance) end() {
	p.leave()
	p.asking.answered()
	p.with.clear()
}

func (p *performance) enter() error {
	if p.entered {
		return nil
	}
	err := p.tpm.enter(p.work.ctx, p.work.alive)
	p.entered = err == nil
	return err
}

func (p *performance) leave() {
	if p.entered {
		p.entered = false
		p.tpm.leave()
	}
}

// attempt is one try.
func (p *performance) attempt() ([]byte, error) {
	t := p.tpm
	p.parentTried, p.keyTried, p.before = false, false, nil
	if h := p.work.key; h != nil {
		if err := h.usable(); err != nil {
			return nil, &noTurn{err}
		}
	}
	if p.work.alone {
		t.endTurn()
	}
	err := t.openTurn(p.work)
	p.turn = t.turn
	if err != nil {
		return nil, err
	}
	if !p.fate.claim(underWay) {
		return nil, &noTurn{p.work.ctx.Err()}
	}
	bringing := time.Now()
	in, secret, err := p.bring()
	began := time.Now()
	t.turn.brought += began.Sub(bringing)
	t.turn.operation(began, p.work.alone) // one that fails here, too: else such keep others out
	if err != nil {
		return nil, err
	}
	if p.work.run == nil {
		return nil, nil
	}
	result, err := p.work.run(in, secret)
	if err == nil && p.work.key != nil {
		p.work.key.recalled = false
	}
	return result, err
}

// bring has the work's key loaded, and its secret at hand.
func (p *performance) bring() (in loadedKey, secret authData, err error) {
	t, h := p.tpm, p.work.key
	if h == nil {
		return nil, nil, nil
	}
	if err := t.chip.prepare(h.file, h.needsSecret && h.secret.kept()); err != nil {
		return nil, nil, err
	}
	if h.in == nil && h.context == nil && p.with.parent != nil && !t.hasProved(h.parent(), p.with.parent) {
		if p.before, err = t.readTries(h.file, true); err != nil {
			return nil, nil, err
		}
		p.parentTried = true
	}
	if in, err = t.bringIn(h, p.with); err != nil || p.work.run == nil {
		return nil, nil, err
	}
	p.parentTried, p.before = false, nil
	secret, err = p.authorization(in)
	return in, secret, err
}

// authorization returns the secret to use a loaded key with, nil for a key without
// one or with a session of its own.
func (p *performance) authorization(in loadedKey) (secret authData, err error) {
	h := p.work.key
	if !h.needsSecret || h.authorized() && h.isProved() {
		return nil, nil
	}
	var before *tries
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
		session, err := in.authorize(secret)
		switch {
		case err == nil:
			h.session, secret = session, nil
		case err != errNoOwnSession:
			return nil, err
		}
	}
	p.keyTried, p.before = true, before
	return secret, nil
}

// readTries is what the TPM counts, or ErrLockedOut where it would not look at a secret.
func (t *TPM) readTries(file *blob.Key, ofParent bool) (*tries, error) {
	now, err := t.chip.readTries(file, ofParent, false)
	if err == nil && now.locked {
		return nil, t.chip.lockedOut()
	}
	return now, err
}

// repair does what an error calls for, and reports whether to try again; if not, the
// error may say more.
func (p *performance) repair(err error) (again bool, why error) {
	class := p.class(err)
	if class == classUnanswered && p.tpm.turn != nil && p.tpm.dev.Bare() {
		p.tpm.abandonTurn() // what is loaded now is not known
	}
	if notTried := class == classNotSent || class == classUnavailable || class == classSecretNeeded; !notTried && p.before != nil {
		if again, err = p.judge(class, err); !again {
			return false, err
		}
	}
	if h := p.work.key; class == classRefused && h != nil && h.recalled && !errors.Is(err, errDecryption) {
		class = classBadResult
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

func (p *performance) class(err error) errClass {
	var none *noTurn
	var lacks *needed
	switch {
	case errors.As(err, &none):
		return classUnavailable
	case errors.As(err, &lacks):
		return classSecretNeeded
	case errors.Is(err, errBadSignature):
		return classBadResult
	}
	return p.tpm.chip.classOf(err)
}

// startOver loads everything again.
func (p *performance) startOver(err error) error {
	p.tpm.startOver(p.work.key, err)
	return nil
}

// loadAnew loads the key from its file, and uses a new session: what is loaded may be
// another key, and the session's nonces may be out of step. A secret that was right before
// is worth that, and one that the TPM has not counted.
func (p *performance) loadAnew(err error) error {
	h := p.work.key
	if h == nil || p.enter() != nil || p.tpm.openTurn(p.work) != nil {
		return err
	}
	p.tpm.startOver(h, err)
	h.context, h.recalled = nil, false
	p.tpm.contexts.cache.Remove(h.entry)
	return nil
}

func (p *performance) makeRoom(err error) error {
	if p.turn == p.tpm.turn && !p.tpm.makeRoom(p.class(err), p.work.key) {
		return err
	}
	return nil // the room of an earlier turn says nothing of this one
}

// startUp starts a TPM that nobody has started since its power came back: after a
// suspend that went wrong, or in swtpm without --flags startup-clear. Where it fails, the
// next attempt shows what it is.
func (p *performance) startUp(error) error {
	if p.tpm.chip.classOf(p.tpm.chip.startUp()) == classNone {
		p.tpm.forgetLoaded()
		p.turn = nil // nothing is as it was
	}
	return nil
}

// sendAgain has nothing to do: the next attempt makes a new connection.
func (p *performance) sendAgain(error) error { return nil }

// repeat repeats what may have been carried out: signing twice does no harm.
func (p *performance) repeat(err error) error {
	if p.work.final {
		return err
	}
	return nil
}

// ask asks for a secret, outside the turn. Somebody else may be answering the same
// question: then that is waited for.
func (p *performance) ask(err error) error {
	var lacks *needed
	errors.As(err, &lacks)
	h := p.work.key
	source := h.secret
	if lacks.ofParent {
		source = h.parentSecret
	}
	p.leave()
	if p.asking != source {
		p.asking.answered()
		p.asking = nil
		if err := source.question(p.work.ctx); err != nil {
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
func (p *performance) fill(source *secretSource, ofParent bool) error {
	auth, err := source.ask()
	if err != nil {
		return err
	}
	if err := p.work.key.usable(); err != nil { // closed meanwhile
		clear(auth)
		source.forget()
		return err
	}
	if ofParent {
		p.with.parent = auth
	} else {
		p.with.key = auth
		p.work.key.doubt()
	}
	return nil
}
