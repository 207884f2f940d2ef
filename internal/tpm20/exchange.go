package tpm20

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/google/go-tpm/tpm2"

	"maclef/internal/tpmconn"
	"maclef/internal/transport/frame"
)

const (
	headerSize   = frame.HeaderSize
	maxReplySize = frame.MaxSize
	tagTPM12     = 0x00c4
)

// An exchange is one command and its reply. It is the transport.TPM that go-tpm executes the
// command on.
type exchange struct {
	conn   *Conn
	cc     tpm2.TPMCC
	secret bool   // a non-empty password authorizes the command
	uses   []*use // the command's sessions
	msg    []byte // the command, nil until it is sent
	body   []byte // what follows the header of a successful reply
}

// begin starts an exchange. finish ends it.
func (c *Conn) begin(cc tpm2.TPMCC) *exchange {
	c.current = &exchange{conn: c, cc: cc}
	return c.current
}

// Send implements transport.TPM. It refuses any other command than the exchange's; sessions of
// go-tpm's own would send one to start.
func (x *exchange) Send(msg []byte) ([]byte, error) {
	if len(msg) < headerSize || tpm2.TPMCC(binary.BigEndian.Uint32(msg[6:])) != x.cc {
		return nil, errors.New("only a Conn's sessions may authorize its commands")
	}
	x.msg = msg
	reply, err := x.sendWithRetry()
	if err != nil {
		return nil, err
	}
	x.body = reply[headerSize:]
	return reply, nil
}

// run calls do, which executes the command. A panic while the command is marshalled or the reply
// is parsed becomes an error.
func (x *exchange) run(do func() error) error {
	return x.finish(x.recoverPanic(do))
}

func (x *exchange) recoverPanic(do func() error) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("%v", r)
		}
	}()
	return do()
}

// finish updates the state of the command's sessions.
func (x *exchange) finish(err error) error {
	c := x.conn
	c.current = nil
	defer func() {
		for _, u := range x.uses {
			clear(u.hmac)
		}
	}()
	var refused *Error
	switch {
	case err == nil:
		x.succeeded()
		return nil
	case x.msg == nil:
		return fmt.Errorf("%s: %w", commandName(x.cc), err)
	case errors.As(err, &refused) && x.body == nil:
		x.refused(refused)
		return err
	}
	secret := x.secret
	for _, u := range x.uses {
		secret = secret || u.secret()
		c.SessionEnded(u.Session, tpmconn.Stale)
	}
	if x.body != nil {
		if errors.Is(err, io.EOF) {
			err = errors.New("it is too short")
		}
		err = malformed(x.cc, "%w", err)
	}
	return c.unanswered(secret, err)
}

// unanswered returns an *Unanswered and drops the connection if the transport can do that,
// because it is no longer known what is loaded.
func (c *Conn) unanswered(secret bool, err error) error {
	c.Drop()
	return &Unanswered{Secret: secret, Cause: err}
}

func (x *exchange) succeeded() {
	for _, u := range x.uses {
		if u.closed {
			x.conn.SessionEnded(u.Session, tpmconn.Gone)
		}
		u.needAuth, u.policyRan = false, false
	}
	if x.cc == tpm2.TPMCCFlushContext {
		x.conn.handleGone(handleAt(x.msg, headerSize))
	}
}

// Kinds of handles: the most significant byte. TPM 2.0 Library Part 2, section 7.2 (TPM_HT).
const (
	hmacSession   = 0x02
	policySession = 0x03
	transient     = 0x80
)

// refused records what an error reply says about the command's sessions and handles.
func (x *exchange) refused(e *Error) {
	code := e.code()
	switch {
	case code >= tpm2.TPMRCReferenceH0 && code <= tpm2.TPMRCReferenceH6:
		x.handleUnknown(e, int(code-tpm2.TPMRCReferenceH0))
	case code >= tpm2.TPMRCReferenceS0 && code <= tpm2.TPMRCReferenceS6:
		x.end(int(code-tpm2.TPMRCReferenceS0), tpmconn.Gone)
	case errors.Is(code, tpm2.TPMRCNonce), errors.Is(code, tpm2.TPMRCHandle), errors.Is(code, tpm2.TPMRCValue):
		var which tpm2.TPMFmt1Error
		code.As(&which)
		if is, i := which.Session(); is && errors.Is(code, tpm2.TPMRCHandle) {
			x.end(i-1, tpmconn.Gone) // a session of the other kind has this handle now
		} else if is {
			x.end(i-1, tpmconn.Stale)
		}
		if is, i := which.Handle(); is && !errors.Is(code, tpm2.TPMRCNonce) {
			x.handleUnknown(e, i-1)
		}
	case code == tpm2.TPMRCFailure && x.cc != tpm2.TPMCCRSADecrypt:
		e.Failed, _ = x.conn.InFailureMode()
	}
}

// handleUnknown records that the TPM does not know the command's handle with this index.
func (x *exchange) handleUnknown(e *Error, index int) {
	if h, ok := x.handle(index); ok {
		e.Gone, e.SessionGone = h, isSession(h)
		x.conn.handleGone(h)
	}
}

// twoHandleCommands are the commands of this package that have two handles.
var twoHandleCommands = []tpm2.TPMCC{
	tpm2.TPMCCStartAuthSession, tpm2.TPMCCPolicySecret, tpm2.TPMCCPolicySigned, tpm2.TPMCCEvictControl, tpm2.TPMCCObjectChangeAuth,
}

// handle returns the command's handle with this index.
func (x *exchange) handle(index int) (tpm2.TPMHandle, bool) {
	at := headerSize + 4*index
	if index < 0 || index > 1 || index == 1 && !slices.Contains(twoHandleCommands, x.cc) || at+4 > len(x.msg) {
		return 0, false
	}
	return handleAt(x.msg, at), true
}

// end ends the command's session with this index.
func (x *exchange) end(index int, how tpmconn.Ending) {
	for _, u := range x.uses {
		if u.index == index {
			x.conn.SessionEnded(u.Session, how)
		}
	}
}

func handleAt(b []byte, i int) tpm2.TPMHandle {
	return tpm2.TPMHandle(binary.BigEndian.Uint32(b[i:]))
}
