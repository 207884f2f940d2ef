package tpm12

import (
	"errors"

	"maclef/internal/tpmconn"
)

// The rolling session authorizes one command after another, by whatever secret
// each needs: nonceEven comes from each reply, nonceOdd is new in each command. It
// ends with the first command that goes wrong. What libtpms 0.9.2 does:
//
//   - An HMAC by other nonces than the TPM's is TPM_AUTHFAIL, counts as a wrong
//     secret, and ends the session; so does a wrong secret.
//   - Any other refusal of a command that it could read ends the session, too; one
//     that comes before (disabled, no owner) does not.
//   - TPM_DEFEND_LOCK_RUNNING leaves the session open and its nonces as they were:
//     it goes on after the lock.
//   - A session that somebody flushed is TPM_INVALID_AUTHHANDLE, which counts for
//     nothing. So is any session after a restart, except that the key's handle is
//     looked at first: TPM_INVALID_KEYHANDLE.

// Keep says whether the rolling session shall go on from its first use: worth it
// where a key with a secret will be used more than once. Without Keep, a session
// serves one command, and none is left over to be freed.
func (c *Conn) Keep(on bool) { c.keep = on }

// EndSessions frees every session of this Conn that is, or may be, open; what
// cannot be freed for want of a connection is tried again next time.
func (c *Conn) EndSessions() {
	for s := range c.Open() {
		c.SessionEnded(s, tpmconn.Stale)
	}
	c.flushStale()
}

// EndRolling is EndSessions for all but those of keys.
func (c *Conn) EndRolling() {
	if c.rolling != nil {
		c.SessionEnded(c.rolling, tpmconn.Stale)
	}
	c.flushStale()
}

// runAuthorized runs cmd by an authorization that may go on after it.
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

// runOwner runs cmd by the owner's secret, in a session of its own.
func (c *Conn) runOwner(cmd *command, owner *Secret) (handles, params []byte, err error) {
	if owner == nil {
		return c.run(cmd)
	}
	s, err := c.oiap()
	if err != nil {
		return nil, nil, err
	}
	if cmd.auth, err = newAuthorization(s, owner, false); err != nil {
		c.SessionEnded(s, tpmconn.Stale)
		return nil, nil, err
	}
	return c.runOnce(cmd)
}

// runOnce runs cmd in a session that is for it alone. The TPM ends that with it,
// except where it refuses before it looks at the authorization (locked out,
// disabled, no SRK): then the session would stay, and there are few.
func (c *Conn) runOnce(cmd *command) (handles, params []byte, err error) {
	handles, params, err = c.runInSession(cmd)
	var refused *Error
	if errors.As(err, &refused) {
		c.flushStale()
	}
	return handles, params, err
}

// runInSession runs cmd, and notes what became of its session.
func (c *Conn) runInSession(cmd *command) (handles, params []byte, err error) {
	s, asked := cmd.auth.session, cmd.auth.goOn
	handles, params, err = c.run(cmd)
	var refused *Error
	switch isRefusal := errors.As(err, &refused); {
	case err == nil && cmd.auth.goOn == 0:
		c.SessionEnded(s, tpmconn.Gone)
	case err == nil && asked != 0:
		s.rolled = true
	case isRefusal && refused.Code&nonFatal != 0 && asked != 0: // the session is as it was
	case isRefusal:
		c.SessionEnded(s, endedBy(refused, asked))
	default: // nobody knows
		c.SessionEnded(s, tpmconn.Stale)
	}
	return handles, params, err
}

// opened notes a new session.
func (c *Conn) opened(s *session) *session {
	s.alive = true
	c.SessionOpened(s)
	return s
}

// endedBy is what a refusal does to the session of a command that asked whether the
// session goes on. One that does not has ended with TPM_UnBind, unless the TPM has not
// looked at it. Other commands, such as TPM_LoadKey2 of a damaged key, may be refused for
// their parameters before the TPM knows their session.
func endedBy(refused *Error, goOn byte) tpmconn.Ending {
	switch code := refused.Code; {
	case code == AuthFail, code == InvalidAuthHandle:
		return tpmconn.Gone
	case goOn != 0, refused.Ordinal != ordUnBind:
		return tpmconn.Stale
	case code&nonFatal != 0, code == Disabled, code == Deactivated, code == NoSRK:
		return tpmconn.Stale
	}
	return tpmconn.Gone
}

// end is called when a session is not used any more.
func (c *Conn) end(s *session) {
	s.alive = false
	clear(s.shared[:])
	if c.rolling == s {
		c.rolling = nil
	}
}

// flushStale frees the sessions that may be open still.
func (c *Conn) flushStale() {
	c.FlushStale(func(handle uint32) bool {
		err := c.flush(handle, resourceAuth)
		var refused *Error
		return err == nil || errors.As(err, &refused) && refused.Code&nonFatal == 0
	})
}
