package keymgr

import (
	"errors"
	"fmt"

	"maclef/internal/chip"
)

// errUnproved: it is not known whether the TPM counted a secret as wrong.
var errUnproved = errors.New("whether the secret is right is not known, so it is not tried again: load the key anew")

// checkTries finds out whether the first use of a secret failed because the secret is wrong.
// The reply may say so, but it may have been changed or lost; the TPM's count tells. It
// reports whether the secret may be tried again.
func (p *task) checkTries(class chip.ErrClass, err error) (again bool, why error) {
	switch {
	case p.proves(err), !chip.SecretTried(err):
		return true, err
	case class == chip.ClassNotStarted && !p.before.Known: // the count could not be read before it was started
		return true, err
	case class == chip.ClassAuth && !p.before.Counts: // there is no count to check the reply by
		return false, err
	}
	switch p.authResult(class) {
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
		err = fmt.Errorf("%w (%w)", err, errUnproved)
	}
	return false, err
}

// markDefaultSecret adds to the error of a wrong secret whether it was the default one.
func (p *task) markDefaultSecret(err error) error {
	if errors.Is(err, chip.ErrWrongSRKSecret) {
		return chip.MarkDefaultSecret(err, p.with.parent)
	}
	return chip.MarkDefaultSecret(err, p.with.key)
}

// proves reports whether an authenticated answer shows that the key's secret was right: the result
// of an operation, or a plaintext with wrong padding.
func (p *task) proves(err error) bool {
	if err == nil {
		return !p.work.Op.ByCode
	}
	return errors.Is(err, chip.ErrDecryption) && !errors.Is(err, chip.ErrRefusedCiphertext)
}

// checkAccepted returns ErrWrongKeySecret if the TPM has counted a secret that it seemed to accept.
func (p *task) checkAccepted() error {
	if p.keyTried && p.before != nil && !p.proves(nil) && p.authResult(chip.ClassRefused) == chip.WasWrong {
		return chip.OfKind(chip.ErrWrongKeySecret, "the TPM has counted it; its answer was changed on its way", nil)
	}
	return nil
}

// authResult reads the TPM's count, whether or not the caller still waits. It tries twice.
func (p *task) authResult(class chip.ErrClass) chip.AuthResult {
	m, refused := p.tpm, class == chip.ClassAuth
	if !p.before.Counts {
		return chip.WasRight
	}
	if !p.entered { // the result was verified after the turn
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
