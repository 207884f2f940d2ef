package transport

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync/atomic"
	"syscall"
	"time"

	"maclef/internal/transport/emulator"
	"maclef/internal/transport/frame"
)

// A socketLink reaches a TPM over a stream: swtpm's data channel.
//
// swtpm serves one client. Others can connect, but get no answer until the clients before
// them have closed their connections. So swtpm's queue of connections is the queue of all
// processes that use the TPM. A link sends the first byte of its next command, and waits
// until swtpm has read it: then swtpm serves this link. After each turn the link goes to
// the end of the queue.
type socketLink struct {
	network, address string
	label            string       // name, for messages
	restart          func() error // starts the TPM again; nil if this program cannot
	timeouts         timeouts
	noWait           atomic.Bool // do not wait for a TPM that is gone
	conn             stream
	firstByteSent    bool // of the next command
	doing            string
	answered         bool // a TPM has answered before
	generation       byte // first byte of the last command, and probably of the next
}

func (s *socketLink) close() error { return nil }

func (s *socketLink) stopWaiting() { s.noWait.Store(true) }

func (s *socketLink) disconnect() {
	if s.conn != nil {
		s.conn.Close()
		s.conn = nil
	}
}

// openSocket makes a Device for swtpm's data channel. network is unix or tcp.
func (o opener) openSocket(doing, network, address string) (*Device, error) {
	label := network + ":" + address
	s := &socketLink{network: network, address: address, label: label, timeouts: o.timeouts, doing: doing}
	return newDevice(label, s, o.timeouts), nil
}

// connect connects and waits until swtpm serves the connection. If swtpm ends, the
// connections that wait in its queue break; then connect tries again.
func (s *socketLink) connect(ctx context.Context) error {
	var failingSince time.Time
	for {
		err := s.dial(ctx)
		if err == nil {
			err = s.awaitServed(ctx)
		}
		if err == nil {
			if s.answered {
				s.doing = "use"
			}
			return nil
		}
		s.disconnect()
		if failingSince.IsZero() {
			failingSince = time.Now()
		}
		if !s.answered || !hungUp(err) || s.noWait.Load() || time.Since(failingSince) > s.timeouts.grace {
			return s.connectError(err)
		}
		if waiting := sleep(ctx, reconnectPause); waiting != nil {
			return s.connectError(fmt.Errorf("%w, %w", err, waited(waiting, s.timeouts.turn)))
		}
	}
}

// reconnectPause is the time between two attempts to reach a TPM that is gone.
const reconnectPause = 5 * time.Millisecond

// hungUp reports whether the peer has closed a connection.
func hungUp(err error) bool {
	return errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, io.ErrUnexpectedEOF)
}

// dial opens a connection. If the TPM was there before, it may be restarting: dial waits.
func (s *socketLink) dial(ctx context.Context) error {
	for begin := time.Now(); ; {
		conn, err := dialStream(ctx, s.network, s.address)
		if err == nil {
			s.conn = conn
			return nil
		}
		absent := errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, syscall.ENOENT) || errors.Is(err, syscall.ECONNRESET)
		if s.restart == nil && !s.answered || !absent {
			return err
		}
		if s.noWait.Load() || time.Since(begin) > s.timeouts.grace {
			return fmt.Errorf("%w for %v: %w", ErrAway, s.timeouts.grace, err)
		}
		if s.restart != nil {
			if err := s.restart(); err != nil && !errors.Is(err, emulator.ErrKilled) {
				return err
			}
		}
		if ended := sleep(ctx, reconnectPause); ended != nil {
			return fmt.Errorf("%w: %w: %w", ErrAway, err, ended)
		}
	}
}

// awaitServed sends the first byte of a command, which executes nothing, and waits until
// swtpm has read it. Then swtpm serves this connection.
func (s *socketLink) awaitServed(ctx context.Context) error {
	if s.conn.unread() < 0 {
		return s.probe(ctx)
	}
	if _, err := s.conn.Write([]byte{s.generation}); err != nil {
		return err
	}
	for pause := 10 * time.Microsecond; s.conn.unread() > 0; pause = min(2*pause, 500*time.Microsecond) {
		if err := sleep(ctx, pause); err != nil {
			return err
		}
	}
	if s.conn.peerClosed() { // swtpm has not read the byte
		return fmt.Errorf("wait to be served: %w", syscall.ECONNRESET)
	}
	s.firstByteSent = true
	return nil
}

// ctxError says why a context has ended: its error and its cause.
func ctxError(ctx context.Context) error {
	kind, cause := ctx.Err(), context.Cause(ctx)
	if cause == errWaitTimeout || errors.Is(cause, kind) {
		return cause
	}
	return fmt.Errorf("%w: %w", kind, cause)
}

// sleep waits for d, or until ctx is done.
func sleep(ctx context.Context, d time.Duration) error {
	if d < time.Millisecond { // too short for a timer
		if ctx.Err() != nil {
			return ctxError(ctx)
		}
		time.Sleep(d)
		return nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctxError(ctx)
	case <-timer.C:
		return nil
	}
}

func (s *socketLink) exchange(cmd []byte, limit time.Duration) ([]byte, error) {
	if s.conn == nil {
		return nil, os.ErrClosed
	}
	if !s.answered {
		limit = min(limit, s.timeouts.probe)
	}
	rest := cmd
	if s.firstByteSent {
		if err := s.ensureFirstByte(cmd[0], limit); err != nil {
			return nil, &notSent{err}
		}
		s.firstByteSent = false
		rest = cmd[1:]
	}
	s.generation = cmd[0]
	rsp, err := exchange(s.conn, rest, limit)
	if s.answered {
		return rsp, err
	}
	if err != nil {
		return nil, s.probeError(rsp, err)
	}
	s.setAnswered()
	return rsp, nil
}

// setAnswered records that a TPM has answered.
func (s *socketLink) setAnswered() { s.answered, s.doing = true, "use" }

// ensureFirstByte makes sure that the byte that was sent ahead is the command's first byte.
// The generation is unknown at first, so the byte may be wrong for a TPM 2.0; then it
// reconnects.
func (s *socketLink) ensureFirstByte(first byte, limit time.Duration) error {
	if s.generation == first {
		return nil
	}
	s.disconnect()
	s.generation = first
	ctx, cancel := context.WithTimeout(context.Background(), min(limit, s.timeouts.turn))
	defer cancel()
	return s.connect(ctx)
}

var probeCommand = frame.Probe()

// probe sends a short command to see whether swtpm serves this connection, where the kernel
// does not tell. The caller's own command would be unsafe: swtpm would carry it out later
// even if the caller has given up.
func (s *socketLink) probe(ctx context.Context) error {
	conn := s.conn
	stop := context.AfterFunc(ctx, func() { conn.Close() }) // exchange sets its own deadlines
	rsp, err := exchange(conn, probeCommand, s.timeouts.turn)
	if !stop() {
		err = waited(ctxError(ctx), s.timeouts.turn)
		if len(rsp) == 0 || frame.CheckResponse(rsp) == nil {
			return s.connectError(ctxError(ctx))
		}
	}
	if err != nil {
		return s.probeError(rsp, err)
	}
	s.setAnswered()
	return nil
}

// connectError explains why there is no connection.
func (s *socketLink) connectError(err error) error {
	var noHost *net.DNSError
	var badAddress *net.AddrError
	var known *opError
	switch {
	case errors.As(err, &known):
		return err
	case errors.Is(err, syscall.EMFILE), errors.Is(err, syscall.ENFILE):
		return failure(s.doing, s.label, ErrBusy, "no descriptor is left for the connection: close files, or raise the limit (ulimit -n): %w", err)
	case errors.Is(err, os.ErrPermission):
		return failure(s.doing, s.label, ErrPermission, "become a user who may write to this socket: %w", err)
	case errors.As(err, &noHost), errors.As(err, &badAddress):
		return failure(s.doing, s.label, ErrNoTPM, "check the name, which is tcp:HOST:PORT: %w", err)
	case errors.Is(err, ErrAway):
		return failure(s.doing, s.label, ErrGone, "is swtpm running? %w", err)
	case s.answered && hungUp(err):
		return failure(s.doing, s.label, ErrGone, "is swtpm running? %w", err)
	case errors.Is(err, errWaitTimeout), errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return failure(s.doing, s.label, ErrBusy, "%s: %w", busyText, waited(err, s.timeouts.turn))
	case errors.Is(err, os.ErrDeadlineExceeded): // from dialing: the queue is full, or the host does not answer
		return failure(s.doing, s.label, ErrBusy, "%s, unless the host does not answer: %w", busyText, waited(errWaitTimeout, s.timeouts.turn))
	case s.answered:
		return failure(s.doing, s.label, ErrGone, "is swtpm running? %w", err)
	}
	return failure(s.doing, s.label, ErrNoTPM, "is swtpm running? This needs the data channel of a running swtpm "+
		"(its --server): %w", err)
}

// waited returns an error that says how long the wait took, if it ended by the Device's
// limit.
func waited(err error, limit time.Duration) error {
	if errors.Is(err, errWaitTimeout) {
		return fmt.Errorf("waited %v", limit)
	}
	return err
}

const busyText = "another program is using it, and swtpm serves one at a time; stop it or wait, and try again"

// probeError explains why the first command got no response of a TPM.
func (s *socketLink) probeError(rsp []byte, err error) error {
	switch {
	case isControlResponse(rsp):
		return failure(s.doing, s.label, ErrNoTPM, "this is swtpm's control channel: give its data channel, the one named by swtpm's --server")
	case errors.Is(err, os.ErrDeadlineExceeded) && len(rsp) == 0:
		return failure(s.doing, s.label, ErrBusy, "it takes connections but gave no answer within %v: %s", min(s.timeouts.probe, s.timeouts.turn), busyText)
	}
	if s.answered {
		return failure(s.doing, s.label, ErrGone, "%w", err)
	}
	return failure(s.doing, s.label, ErrNoTPM, "what listens there does not answer like a TPM (the data channel of swtpm would): %w", err)
}

// isControlResponse recognises the response of swtpm's control channel to a TPM command: a
// bare result code, TPM_BAD_ORDINAL.
func isControlResponse(rsp []byte) bool {
	return len(rsp) == 4 && binary.BigEndian.Uint32(rsp) == 0x0000000A
}
