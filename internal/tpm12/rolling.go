package tpm12

import (
	"errors"

	"maclef/internal/tpmconn"
)

// The rolling session is an OIAP session that authorizes one command after another, each with the
// secret it needs. Each reply has a new nonceEven, each command a new nonceOdd. The session ends
// with the first command that fails. libtpms 0.9.2 behaves like this:
//
//   - An HMAC over other nonces than the TPM's gives TPM_AUTHFAIL, counts as a wrong secret and ends
//     the session, exactly as a wrong secret does.
//   - Any other error after the TPM has parsed the command ends the session, too. An error before that
//     (TPM disabled, no owner) does not.
//   - TPM_DEFEND_LOCK_RUNNING keeps the session and its nonces, so it can be used after the lock.
//   - A session that somebody flushed gives TPM_INVALID_AUTHHANDLE and counts no try. So does any
//     session after a restart, but the TPM checks the key handle first: TPM_INVALID_KEYHANDLE.

// Keep sets whether the rolling session stays open after its first command. That is worthwhile if
// a key with a secret is used more than once. Otherwise each session authorizes one command, and
// none needs to be flushed.
func (c *Conn) Keep(on bool) { c.keep = on }

// EndSessions flushes every session of this Conn that is or may be open. What cannot be flushed
// because the connection is lost is tried again at the next call.
func (c *Conn) EndSessions() {
	for s := range c.Open() {
		c.SessionEnded(s, tpmconn.Stale)
	}
	c.flushStale()
}

// EndRolling is EndSessions, except that it keeps the KeySessions.
func (c *Conn) EndRolling() {
	if c.rolling != nil {
		c.SessionEnded(c.rolling, tpmconn.Stale)
	}
	c.flushStale()
}

// runAuthorized runs cmd with an authorization whose session may stay open.
func (c *Conn) runAuthorized(cmd *command, auth Auth) (handles, params []byte, err error) {
	if auth != nil {
		if cmd.auth, err = auth.authorize(c); err != nil {
			return nil, nil, err
		}
	}
	if cmd.auth == nil {
		return c.run(cmd)
	}
	return c.runInSession(cmd)
}

// runOwner runs cmd with the owner's secret, in a session for this command only.
func (c *Conn) runOwner(cmd *command, owner *Secret) (handles, params []byte, err error) {
	if owner == nil {
		return c.run(cmd)
	}
	if cmd.auth, err = c.oiapOnce(owner); err != nil {
		return nil, nil, err
	}
	return c.runOnce(cmd)
}

// oiapOnce opens a session, and returns the authorization of its only command.
func (c *Conn) oiapOnce(secret *Secret) (*authorization, error) {
	s, err := c.oiap()
	if err != nil {
		return nil, err
	}
	return c.once(s, secret)
}

// once returns the authorization of a session's only command.
func (c *Conn) once(s *session, key *Secret) (*authorization, error) {
	a, err := newAuthorization(s, key, false)
	if err != nil {
		c.SessionEnded(s, tpmconn.Stale)
	}
	return a, err
}

// runOnce runs cmd in one or two sessions for this command only. The TPM ends them, except where it
// refuses the command before it checks the authorization (locked out, disabled, no SRK). Then
// runOnce flushes them, because the TPM has few.
func (c *Conn) runOnce(cmd *command) (handles, params []byte, err error) {
	handles, params, err = c.runInSession(cmd)
	if a := cmd.auth2; a != nil {
		how := tpmconn.Stale
		if err == nil && a.continueSession == 0 {
			how = tpmconn.Gone
		}
		c.SessionEnded(a.session, how)
	}
	var refused *Error
	if errors.As(err, &refused) {
		c.flushStale()
	}
	return handles, params, err
}

// runInSession runs cmd and updates the state of its session.
func (c *Conn) runInSession(cmd *command) (handles, params []byte, err error) {
	s, asked := cmd.auth.session, cmd.auth.continueSession
	handles, params, err = c.run(cmd)
	var refused *Error
	switch isErrorReply := errors.As(err, &refused); {
	case err == nil && cmd.auth.continueSession == 0:
		c.SessionEnded(s, tpmconn.Gone)
	case err == nil && asked != 0:
		s.used = true
	case isErrorReply && refused.Code&nonFatal != 0 && asked != 0: // the session is as it was
	case isErrorReply:
		c.SessionEnded(s, endedBy(refused, asked))
	default: // unknown whether the session is open
		c.SessionEnded(s, tpmconn.Stale)
	}
	return handles, params, err
}

// opened records a new session.
func (c *Conn) opened(s *session) *session {
	s.alive = true
	c.SessionOpened(s)
	return s
}

// endedBy returns whether a refused command has ended its session; continueSession is what the command asked
// for. TPM_UnBind ends a session that it need not continue, unless the TPM refused the command
// before it checked the session. Other commands, such as TPM_LoadKey2 of a damaged key, may be
// refused because of their parameters, before the TPM checks the session.
func endedBy(refused *Error, continueSession byte) tpmconn.Ending {
	switch code := refused.Code; {
	case code == AuthFail && continueSession == 0 && refused.Ordinal != ordUnBind: // the code may be forged
		return tpmconn.Stale
	case code == AuthFail, code == InvalidAuthHandle:
		return tpmconn.Gone
	case continueSession != 0, refused.Ordinal != ordUnBind:
		return tpmconn.Stale
	case code&nonFatal != 0, code == Disabled, code == Deactivated, code == NoSRK:
		return tpmconn.Stale
	}
	return tpmconn.Gone
}

// end is called once for each session, when it is no longer used.
func (c *Conn) end(s *session) {
	s.alive = false
	clear(s.shared[:])
	if c.rolling == s {
		c.rolling = nil
	}
}

// flushStale flushes the sessions that are no longer used but may be open.
func (c *Conn) flushStale() {
	c.FlushStale(func(handle uint32) bool {
		err := c.flush(handle, resourceAuth)
		var refused *Error
		return err == nil || errors.As(err, &refused) && refused.Code&nonFatal == 0
	})
}
