package tpm12

import "errors"

// An Auth authorizes the use of a key: a *Secret by the rolling session, or a
// *KeySession. Nil, or a nil *Secret, sends the command without authorization, as
// keys with authDataUsage "never" demand.
type Auth interface {
	// authorize returns what authorizes the next command, nil for nothing.
	authorize(c *Conn) (*authorization, error)
}

// authorize authorizes by the rolling session, which it opens where there is none.
func (secret *Secret) authorize(c *Conn) (a *authorization, err error) {
	if secret == nil {
		return nil, nil
	}
	if c.rolling == nil {
		if c.rolling, err = c.oiap(); err != nil {
			return nil, err
		}
	}
	return newAuthorization(c.rolling, secret, c.keep || c.rolling.rolled)
}

// ErrSessionEnded is the use of a KeySession that has ended.
var ErrSessionEnded = errors.New("the key's authorization session has ended")

// A KeySession is a session for one key, made by its secret and used without it:
// it authorizes until a command fails in it, or the key is flushed.
//
// It survives SaveContext of its key, and authorizes for other handles of the same
// key, too. FlushSpecific of any of these handles ends it, so that it does not come
// back with LoadContext (seen on libtpms 0.9.2, and TPM Main Part 3, section 22.1).
type KeySession struct {
	conn *Conn
	s    *session
}

// OpenKeySession opens a session for a loaded key. secret is not kept; a wrong one
// shows when the session is used first, as TPM_AUTHFAIL. A TPM has few sessions
// (libtpms 16) for all its users; the next one is TPM_RESOURCES.
func (c *Conn) OpenKeySession(key Handle, secret *Secret) (*KeySession, error) {
	s, err := c.osap(entityKeyHandle, uint32(key), secret)
	if err != nil {
		return nil, err
	}
	return &KeySession{conn: c, s: s}, nil
}

// Alive reports whether the session can be used, as far as is known.
func (k *KeySession) Alive() bool { return k != nil && k.s.alive }

// Close ends the session. It sends nothing: the next session that is opened, or
// EndSessions or EndRolling, frees this one in the TPM.
func (k *KeySession) Close() {
	if k.Alive() {
		k.conn.ended(k.s, disused)
	}
}

func (k *KeySession) authorize(*Conn) (*authorization, error) {
	if !k.Alive() {
		return nil, ErrSessionEnded
	}
	return newAuthorization(k.s, &k.s.shared, true)
}
