package tpmkey

import (
	"errors"
	"fmt"
)

// Repairs that an operation is worth. What others do to the TPM may hit one
// operation more than once; a reply that is lost is not asked for a third time.
const (
	maxRepairs = 4
	maxRepeats = 1
)

// errTaken is a handle that is another key's by now.
var errTaken = fmt.Errorf("%w: what has its handle is another key", ErrUnloaded)

// An attempt is one operation with what it may need, and what was tried of it.
type attempt struct {
	*held
	op       operation
	with     *secrets
	repairs  int
	repeats  int
	srkTried bool // the last try came to where the SRK's secret is sent
	keyTried bool // the same for the key's
	fresh    int  // sessions that were replaced
}

// perform runs an operation, in a turn. It loads the key where the TPM does not have
// it (any more), and repairs what can be repaired.
func (h *held) perform(op operation, with *secrets) (out []byte, err error) {
	a := &attempt{held: h, op: op, with: with}
	for {
		out, err = a.once()
		if err == nil || !a.repair(err) {
			break
		}
	}
	if n, ok := err.(*needed); ok {
		return nil, n
	}
	if cond := h.tpm.chip.condition(err); cond == noRoomForSession || cond == noRoomForKey {
		return nil, &needed{room: true, why: err}
	}
	h.settle(err, a.keyTried)
	return out, err
}

// once is one try.
func (a *attempt) once() ([]byte, error) {
	a.srkTried, a.keyTried = false, false
	if err := a.usable(); err != nil {
		return nil, err
	}
	if err := a.tpm.sync(); err != nil {
		return nil, err
	}
	if err := a.tpm.chip.reclaim(a.tpm.claimed); err != nil {
		return nil, err
	}
	if d := a.tpm.slots.yield(a.held); d > 0 {
		return nil, &needed{courtesy: d}
	}
	if err := a.tpm.chip.prepare(a.file, a.needsSecret && a.secret.kept()); err != nil {
		return nil, err
	}
	in, err := a.tpm.slots.bring(a.held, a.with)
	a.srkTried = err != nil && a.slot.in == nil && a.slot.context == nil
	if err != nil || a.op == nil {
		return nil, err
	}
	key, err := a.authorization(in)
	if err != nil {
		return nil, err
	}
	a.keyTried = a.needsSecret
	out, err := a.op(in, key)
	a.slot.worked = a.slot.worked || err == nil
	if err != nil && a.keyTried && !a.isProved() {
		err = a.judge(err)
	}
	return out, err
}

// judge finds out, after a first use of a secret that failed, whether it failed
// because of the secret: the error may say so, or may be garbled or lost, but the
// TPM's count of wrong secrets tells.
func (a *attempt) judge(err error) error {
	if errors.Is(err, errTaken) && a.tpm.chip.counted() == wasNot { // another key has seen it
		a.keyTried = false
		return err
	}
	if errors.Is(err, ErrWrongKeySecret) || errors.Is(err, errDecryption) {
		return err
	}
	if cond := a.tpm.chip.condition(err); cond == notSent || cond == unavailable {
		a.keyTried = false
		return err
	}
	switch a.tpm.chip.counted() {
	case wasWrong:
		if cond := a.tpm.chip.condition(err); cond == keyGone && a.tpm.chip.generation() == tpm20Family {
			return err // a restart of a TPM 2.0 without a warning counts, too
		}
		// Whatever err says, it does not call for a repair.
		return &refusal{ErrWrongKeySecret, fmt.Sprintf("the TPM has counted it; its answer was: %v", err), nil}
	case wasNot:
		a.keyTried = false
	}
	return err
}

// load loads the key from its file.
func (h *held) load(with *secrets) (loadedKey, error) {
	if h.file.TSS2 != nil && h.file.TSS2.Handle != 0 { // it has no parent to be loaded under
		in, err := h.tpm.chip.load(h.file, nil)
		if err == nil {
			h.tpm.keys[h] = struct{}{}
		}
		return in, err
	}
	if with.srk == nil {
		if err := h.tpm.chip.ready(); err != nil { // before anybody is asked
			return nil, err
		}
		if err := h.tpm.chip.checkTry(nil); err != nil {
			return nil, err
		}
		return nil, &needed{srk: true}
	}
	parent := h.parent()
	if err := h.tpm.checkRefused(parent, with.srk); err != nil {
		return nil, err
	}
	in, err := h.tpm.chip.load(h.file, with.srk)
	h.tpm.noteParent(parent, with.srk, err)
	if err == nil {
		h.tpm.keys[h] = struct{}{}
	}
	return in, err
}

// authorization returns the secret to use a loaded key with, nil for a key without
// one or with a session of its own.
func (a *attempt) authorization(in loadedKey) (authData, error) {
	if !a.needsSecret || in.authorized() {
		return nil, nil
	}
	if a.with.key == nil || !a.isProved() { // before anybody is asked
		if err := a.tpm.chip.checkTry(a.file); err != nil {
			return nil, err
		}
		if a.tpm.chip.generation() == tpm20Family && !in.isStill(a.public) { // another key would see it first
			return nil, errTaken
		}
	}
	if a.with.key == nil {
		return nil, &needed{key: true}
	}
	if a.secret.kept() {
		return a.with.key, nil
	}
	if err := in.authorize(a.with.key); err != errNoOwnSession {
		return nil, err
	}
	return a.with.key, nil
}

// repair does what an error calls for, and reports whether to try again.
func (a *attempt) repair(err error) bool {
	if _, lacks := err.(*needed); lacks || a.repairs == maxRepairs {
		return false
	}
	a.repairs++
	chip := a.tpm.chip
	if errors.Is(err, ErrWrongKeySecret) {
		return a.doubtful(err)
	}
	if errors.Is(err, errTaken) {
		if !a.slot.worked { // then the handle may have been garbled
			chip.misplaced(a.file)
		}
		a.tpm.slots.lost(a.held)
		a.slot.context = nil // it may be the other key's
		if a.keyTried {
			return a.again()
		}
		chip.renew() // who took the key's handle may have taken the session's
		return true
	}
	switch chip.condition(err) {
	case keyGone:
		if !a.slot.worked { // then the handle may have been garbled
			chip.misplaced(a.file)
		}
		a.tpm.slots.lost(a.held)
		return true
	case sessionGone:
		return true
	case sessionStale: // while loading, by the SRK's secret
		a.fresh++
		chip.renew()
		return a.fresh == 1 && a.srkTried && a.tpm.hasProved(a.parent(), a.with.srk) && chip.checkTry(nil) == nil
	case noRoomForSession:
		return a.tpm.slots.freeSession(a.held)
	case noRoomForKey: // for what the operation takes besides the key
		return a.tpm.slots.freePlace(a.held)
	case notStarted:
		return a.tpm.startUp() == nil
	case notSent:
		return true
	case noReply, noReplyToSecret:
		chip.misplacedSession() // one may be open of which nobody knows
		a.repeats++
		return a.repeats <= maxRepeats && (chip.condition(err) == noReply || a.safe())
	}
	return false
}

// doubtful is the repair where the TPM refuses a secret that was right before: the
// nonces may be out of step, or what has the key's handle is another key. That is
// worth one more try with both anew, but not while the TPM counts to its last.
func (a *attempt) doubtful(err error) bool {
	if !a.needsSecret { // none can be wrong, but a session that hides what the TPM says
		a.fresh++
		a.tpm.chip.renew()
		return a.fresh == 1 && a.tpm.chip.condition(err) == sessionStale
	}
	if !a.keyTried || !a.again() {
		return false
	}
	if !a.tpm.others(a.slot.in) {
		a.tpm.chip.misplaced(a.file)
	}
	a.tpm.slots.lost(a.held)
	a.slot.context = nil
	return true
}

// again reports whether a secret that was right before may be tried once more, and sees
// that it is in a session of which nobody else has the handle.
func (a *attempt) again() bool {
	a.fresh++
	if a.fresh > 1 || !a.isProved() || a.tpm.chip.checkTry(a.file) != nil {
		return false
	}
	a.tpm.chip.renew()
	return true
}

// safe reports whether a command may be repeated that the TPM may have carried
// out: signing twice does no harm, a secret that may be wrong does.
func (a *attempt) safe() bool {
	if a.srkTried && !a.tpm.hasProved(a.parent(), a.with.srk) {
		return false
	}
	return !a.keyTried || a.isProved()
}

// distrust has a key loaded anew: what has its handle gave a wrong signature. It may
// be another process's key, which is left where it is.
func (k *Key) distrust() error {
	h := k.held
	_, err := h.tpm.turnFor(k.ctx, k.alive, func() ([]byte, error) {
		in := h.slot.in
		h.slot.context = nil // it may be the other key's
		if in == nil {
			return nil, nil
		}
		if h.tpm.others(in) {
			h.tpm.slots.lost(h)
			return nil, nil
		}
		err := in.flush()
		h.tpm.slots.lost(h)
		return nil, err
	}, func() {})
	if err != nil {
		return fmt.Errorf("load the key again after a wrong signature: %w", err)
	}
	return nil
}
