package tpmkey

import (
	"bytes"
	"errors"

	"github.com/google/go-tpm/tpm2"

	"maclef/blob"
	"maclef/internal/transport"
)

// missed notes that a key may be in the TPM without anybody knowing its handle.
func (c *chip20) missed(k *blob.Key, err error) {
	if cond := c.condition(err); cond == noReply || cond == noReplyToSecret {
		c.misplaced(k)
	}
}

func (c *chip20) misplaced(k *blob.Key) {
	c.lost = append(c.lost, k)
	c.mislay()
}

// mislay notes that something may be in the TPM without anybody knowing its handle.
func (c *chip20) mislay() { c.lostSession = true }

// misplacedSession is mislay where a command had no answer that loads something.
func (c *chip20) misplacedSession() {
	if c.conn.Missed() {
		c.mislay()
	}
}

// reclaim frees what was loaded, but whose handle was lost with the reply: keys and
// parents that nobody claims and that have the name of one that is lost, and sessions
// that nobody claims.
func (c *chip20) reclaim(claimed func(kind byte, handle uint32) bool) error {
	if !c.lostSession {
		return nil
	}
	keys, sessions, err := c.occupants()
	if err != nil {
		return err
	}
	for _, key := range keys {
		if !claimed(transport.ClaimKey, key) && c.isLost(key) {
			err = errors.Join(err, c.flushKey(key))
		}
	}
	for _, session := range sessions {
		if c.dev.Managed() { // they may be other processes', which the resource manager frees
			break
		}
		if !claimed(transport.ClaimSession, session) {
			err = errors.Join(err, c.flushSession(session))
		}
	}
	if err == nil || c.condition(err) == refused {
		c.lost, c.lostSession = nil, false
		return nil
	}
	return err
}

// freeStrays frees, for want of room, primaries of the kinds that this program makes for a moment, and
// copies of its own keys, that nobody claims: two of a TPM's three places are taken by
// one program that is killed while it loads a key. It frees sessions that nobody claims,
// too; programs that leave theirs in the TPM while others use it are hardly known.
func (c *chip20) freeStrays(why error, claimed func(kind byte, handle uint32) bool) (freed bool, err error) {
	if !c.dev.Tells() { // nobody knows whose anything is
		return false, nil
	}
	lacksSession := c.condition(why) == noRoomForSession
	keys, sessions, err := c.occupants()
	for _, key := range keys {
		if err == nil && !lacksSession && !claimed(transport.ClaimKey, key) && c.isOurs(key) {
			err = c.flushKey(key)
			freed = freed || err == nil
		}
	}
	for _, session := range sessions {
		if err == nil && lacksSession && !claimed(transport.ClaimSession, session) {
			err = c.flushSession(session)
			freed = freed || err == nil
		}
	}
	return freed, err
}

// isOurs reports whether what has a handle is a primary, or a key that this program has
// loaded before.
func (c *chip20) isOurs(handle uint32) bool {
	object, err := c.conn.ReadPublic(tpm2.TPMHandle(handle))
	return err == nil && (isPrimary(object.Public) || c.names[string(object.Name.Buffer)])
}

// isLost reports whether a key in the TPM is one whose handle was lost, or a primary of
// the kinds that this program makes and takes out at once.
func (c *chip20) isLost(handle uint32) bool {
	object, err := c.conn.ReadPublic(tpm2.TPMHandle(handle))
	if err != nil {
		return false
	}
	if isPrimary(object.Public) {
		return true
	}
	now := tpm2.Marshal(tpm2.New2B(*object.Public))
	for _, k := range c.lost {
		if bytes.Equal(now, k.TSS2.Public) {
			return true
		}
	}
	return false
}
