package keymgr

import (
	"errors"
	"fmt"
	"maclef/internal/chip"
)

// errInDoubt ends the use of a secret of which nobody knows whether it was wrong.
var errInDoubt = errors.New("whether the secret is right is not known, so it is not tried again: load the key anew")

// checkTries finds out, after a first use of a secret that failed, whether it failed because
// of the secret: the answer may say so, or may be changed or lost, but the TPM's count
// tells. It reports whether the secret may be tried again.
func (p *task) checkTries(class chip.ErrClass, err error) (again bool, why error) {
	switch {
	case errors.Is(err, chip.ErrDecryption), !chip.SecretTried(err):
		return true, err
	case class == chip.ClassNotStarted && !p.before.Known: // it did not count before it was started
		return true, err
	case class == chip.ClassAuth && !p.before.Counts: // nothing says otherwise
		return false, err
	}
	switch p.verdict(class) {
	case chip.WasRight:
		return true, err
	case chip.WasWrong:
		kind := chip.ErrWrongKeySecret
		if p.parentTried {
			kind = chip.ErrWrongSRKSecret
		}
		if !errors.Is(err, kind) {
			err = chip.OfKind(kind, fmt.Sprintf("the TPM has counted it; its answer was: %v", err), nil)
		}
		return false, err
	}
	if class == chip.ClassUnanswered {
		err = fmt.Errorf("%w (%w)", err, errInDoubt)
	}
	return false, err
}

// verdict asks the TPM, whoever waits for the operation still, and again where that fails.
func (p *task) verdict(class chip.ErrClass) chip.Verdict {
	m, refused := p.tpm, class == chip.ClassAuth
	if !p.before.Counts {
		return chip.WasRight
	}
	if !p.entered { // the result was looked at after the turn
		if m.enter(noLimit, nil) != nil {
			return chip.Unknown
		}
		p.entered = true
	}
	for range 2 {
		if m.openTurn(&Work{Ctx: noLimit}) != nil {
			return chip.Unknown
		}
		if class == chip.ClassNotStarted {
			p.startUp(nil)
		}
		now, err := m.chip.ReadTries(p.work.Key.file, p.parentTried, true)
		if err == nil {
			return now.Since(p.before, refused)
		}
		class = m.chip.ClassOf(err)
	}
	return chip.Unknown
}
