package tpmkey

import (
	"errors"

	"github.com/google/go-tpm/tpm2"

	"maclef/internal/tpm20"
)

// saltOnly is a primary key for sessions, where there is no parent.
var saltOnly = parentID{handle: tpm2.TPMRHNull, primary: primaryH2}

// startSession returns the session that serves all keys, a new one salted to a key
// that is in the TPM now unless there is one.
func (c *chip20) startSession(salt *tpm20.Object) (*tpm20.Session, error) {
	if c.session != nil && c.session.Alive() {
		return c.session, nil
	}
	s, err := c.conn.StartHMAC(salt, nil, nil)
	if err != nil {
		return nil, err
	}
	c.session = s
	return s, nil
}

// sharedSession is startSession for a key whose parent is not in the TPM now.
func (c *chip20) sharedSession(parent parentID) (*tpm20.Session, error) {
	if c.session != nil && c.session.Alive() {
		return c.session, nil
	}
	err := c.salted(parent, func(salt *tpm20.Object) error {
		_, err := c.startSession(salt)
		return err
	})
	return c.session, err
}

// salted runs f with a key to salt a session to: the parent, where it can be had
// without a secret, else a primary of the null hierarchy.
func (c *chip20) salted(parent parentID, f func(salt *tpm20.Object) error) error {
	if isHierarchy(uint32(parent.handle)) {
		if known := c.parents[parent]; known == nil || known.context == nil {
			parent = saltOnly
		}
	}
	with := func(salt *tpm20.Object, _ tpm2.Session) error { return f(salt) }
	err := c.underParent(parent, nil, with)
	// The TPM was restarted, and the primary would have to be made; or nobody keeps the
	// parent any more.
	if parent != saltOnly && (errors.Is(err, ErrWrongSRKSecret) || errors.Is(err, ErrNoParent)) {
		return c.underParent(saltOnly, nil, with)
	}
	return err
}
