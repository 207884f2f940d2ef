package main

import (
	"errors"

	"maclef/internal/cli"
	"maclef/tpmkey"
)

// An outage is why the key does not sign. It stays the same while a TPM gives
// the same kind of error, whatever numbers are in its text. It ends by itself:
// every handshake tries again, and package tpmkey loads the key again where that
// is what it takes.
type outage struct {
	kind     any // a sentinel of package tpmkey or a text; nil while the key signs
	failures int // handshakes that failed of it
}

var kinds = []error{
	tpmkey.ErrWrongKeySecret, tpmkey.ErrSecretNeeded, tpmkey.ErrLockedOut, tpmkey.ErrGone,
	tpmkey.ErrPolicy, tpmkey.ErrWrongSRKSecret, tpmkey.ErrWrongTPM, tpmkey.ErrNoParent, tpmkey.ErrNoKey,
	tpmkey.ErrBusy, tpmkey.ErrDisabled, tpmkey.ErrNotSupported, tpmkey.ErrClosed,
}

// known reports whether an error is of the key or its TPM.
func known(err error) bool {
	_, sentinel := kindOf(err).(error)
	return sentinel
}

// kindOf is the kind of an outage. A TPM that goes away in the middle of a
// command is soon one that nobody finds, or that clients wait for in vain.
func kindOf(err error) any {
	if errors.Is(err, tpmkey.ErrNoTPM) || gaveUp(err) && !errors.Is(err, tpmkey.ErrBusy) {
		return tpmkey.ErrGone
	}
	for _, kind := range kinds {
		if errors.Is(err, kind) {
			return kind
		}
	}
	return err.Error()
}

// keyFailed tells why a handshake could not be signed: at the first one, and
// whenever the reason is another.
func (j *journal) keyFailed(err error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	kind := kindOf(err)
	if now := j.outage.kind; gaveUp(err) && (now == tpmkey.ErrGone || now == tpmkey.ErrBusy) {
		kind = now // several wait in vain for one thing, each in a queue of its own
	}
	if kind != j.outage.kind {
		j.tellFailures("before")
		what, next := "handshakes fail, the key does not sign", "; trying again at each handshake"
		switch kind {
		case tpmkey.ErrGone:
			what = "handshakes fail, the TPM does not answer"
		case tpmkey.ErrWrongKeySecret, tpmkey.ErrClosed:
			next = "" // nothing is tried any more
		}
		j.write("%s: %s%s", what, printable(err.Error(), 500), next)
		j.outage = outage{kind: kind}
	}
	j.outage.failures++
}

// keyWorks tells that the key signs again, if c shows it.
func (j *journal) keyWorks(c *conn) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if c.sample.number == 0 || j.outage.kind == nil {
		return
	}
	j.tellFailures("meanwhile")
	j.write("the key signs again")
	j.outage = outage{}
}

// tellFailures tells how many handshakes failed of one reason.
func (j *journal) tellFailures(when string) {
	if j.outage.failures > 0 {
		j.write("%s failed %s", cli.Counted(j.outage.failures, "handshake"), when)
		j.outage.failures = 0
	}
}
