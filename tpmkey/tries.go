package tpmkey

import (
	"errors"
	"fmt"
)

// tries are what a TPM counts of wrong secrets, before and after the first use of one.
type tries struct {
	counts bool // the TPM counts wrong ones of this secret
	known  bool // and tells how many there were
	locked bool // it looks at none for a while
	count  int
	resets int  // how often the TPM was reset: a TPM 2.0 that was not told counts that, too
	told   bool // of the last reset, which it does not count then
}

// A verdict is what a TPM's count of wrong secrets says of one.
type verdict int

const (
	unknown verdict = iota
	wasWrong
	wasNot
)

// since compares with what was counted before a secret was used. As many more as there
// were resets are those of the resets, unless the TPM has said itself that the secret is
// wrong. Another process's wrong secret can make a right one look wrong; that is the
// better mistake.
func (now *tries) since(before *tries, refused bool) verdict {
	more, resets := now.count-before.count, now.resets-before.resets
	if resets > 0 && now.told {
		resets--
	}
	switch {
	case !before.known || !now.known:
		return unknown
	case more == 0, more == resets && !refused:
		return wasNot
	case more > resets && more > 0, refused && more > 0:
		return wasWrong
	}
	return unknown
}

// errInDoubt ends the use of a secret of which nobody knows whether it was wrong.
var errInDoubt = errors.New("whether the secret is right is not known, so it is not tried again: load the key anew")

// judge finds out, after a first use of a secret that failed, whether it failed because
// of the secret: the answer may say so, or may be changed or lost, but the TPM's count
// tells. It reports whether the secret may be tried again.
func (p *performance) judge(class errClass, err error) (again bool, why error) {
	switch {
	case errors.Is(err, errDecryption), !p.tpm.chip.triedSecret(err):
		return true, err
	case class == classNotStarted && !p.before.known: // it did not count before it was started
		return true, err
	case class == classAuth && !p.before.counts: // nothing says otherwise
		return false, err
	}
	switch p.verdict(class) {
	case wasNot:
		return true, err
	case wasWrong:
		kind := ErrWrongKeySecret
		if p.parentTried {
			kind = ErrWrongSRKSecret
		}
		if !errors.Is(err, kind) {
			err = &refusal{kind, fmt.Sprintf("the TPM has counted it; its answer was: %v", err), nil}
		}
		return false, err
	}
	if class == classUnanswered {
		err = fmt.Errorf("%w (%w)", err, errInDoubt)
	}
	return false, err
}

// verdict asks the TPM, whoever waits for the operation still, and again where that fails.
func (p *performance) verdict(class errClass) verdict {
	t, refused := p.tpm, class == classAuth
	if !p.before.counts {
		return wasNot
	}
	if !p.entered { // the result was looked at after the turn
		if t.enter(noLimit, nil) != nil {
			return unknown
		}
		p.entered = true
	}
	for range 2 {
		if t.openTurn(&work{ctx: noLimit}) != nil {
			return unknown
		}
		if class == classNotStarted {
			p.startUp(nil)
		}
		now, err := t.chip.readTries(p.work.key.file, p.parentTried, true)
		if err == nil {
			return now.since(p.before, refused)
		}
		class = t.chip.classOf(err)
	}
	return unknown
}
