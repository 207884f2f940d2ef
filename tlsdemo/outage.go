package main

import (
	"errors"

	"maclef/internal/cli"
	"maclef/tpmkey"
)

// An outage is a time in which the key does not sign, for one reason. It is logged when
// it begins and when it ends, not for each handshake. Every handshake tries again.
type outage struct {
	reason   any // from reasonOf; nil while the key signs
	failures int // handshakes that failed for it
}

var reasons = []error{
	tpmkey.ErrWrongKeySecret, tpmkey.ErrSecretNeeded, tpmkey.ErrLockedOut, tpmkey.ErrGone,
	tpmkey.ErrPolicy, tpmkey.ErrWrongSRKSecret, tpmkey.ErrWrongTPM, tpmkey.ErrNoParent, tpmkey.ErrMovableParent, tpmkey.ErrNoKey,
	tpmkey.ErrBusy, tpmkey.ErrDisabled, tpmkey.ErrNotSupported, tpmkey.ErrClosed,
}

// ofKeyOrTPM reports whether an error is one of the key or its TPM.
func ofKeyOrTPM(err error) bool {
	_, known := reasonOf(err).(error)
	return known
}

// reasonOf returns an error of package tpmkey, or else the text of err: two errors of one
// outage may have different numbers in their texts. All errors of a TPM that goes away
// count as ErrGone: one in the middle of a command, those because there is no TPM, and
// those of clients that wait in vain.
func reasonOf(err error) any {
	if errors.Is(err, tpmkey.ErrNoTPM) || gaveUp(err) && !errors.Is(err, tpmkey.ErrBusy) {
		return tpmkey.ErrGone
	}
	for _, reason := range reasons {
		if errors.Is(err, reason) {
			return reason
		}
	}
	return err.Error()
}

// keyFailed records a handshake that the key did not sign. It logs the error if it is
// the first, or the reason has changed.
func (l *logger) keyFailed(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	reason := reasonOf(err)
	if now := l.outage.reason; gaveUp(err) && (now == tpmkey.ErrGone || now == tpmkey.ErrBusy) {
		reason = now // clients that give up do not know which of the two it is
	}
	if reason != l.outage.reason {
		l.writeFailures("before")
		what, next := "handshakes fail, the key does not sign", "; trying again at each handshake"
		switch reason {
		case tpmkey.ErrGone:
			what = "handshakes fail, the TPM does not answer"
		case tpmkey.ErrWrongKeySecret, tpmkey.ErrClosed:
			next = "" // package tpmkey does not try again
		}
		l.write("%s: %s%s", what, shortText(err.Error(), 500), next)
		l.outage = outage{reason: reason}
	}
	l.outage.failures++
}

// keyWorks logs the end of an outage, if the key signed for c.
func (l *logger) keyWorks(c *conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if c.sample.number == 0 || l.outage.reason == nil {
		return
	}
	l.writeFailures("meanwhile")
	l.write("the key signs again")
	l.outage = outage{}
}

// writeFailures writes how many handshakes failed for the present reason. It runs under mu.
func (l *logger) writeFailures(when string) {
	if l.outage.failures > 0 {
		l.write("%s failed %s", cli.Counted(l.outage.failures, "handshake"), when)
		l.outage.failures = 0
	}
}
