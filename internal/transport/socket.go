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

// A socketLink reaches a TPM that speaks on a stream: swtpm's data channel.
//
// swtpm serves one client, and leaves the next ones connected and waiting,
// without a word, in the order in which they came. That is the queue of all
// processes that use it. A link waits there until swtpm has taken it in, which
// the lead byte shows, and goes to the end of the queue after each turn.
type socketLink struct {
	network, address string
	label            string       // for messages
	revive           func() error // starts a TPM that is not there, nil if nobody can
	waits            waits
	noWait           atomic.Bool // a TPM that is not there is not waited for
	conn             stream
	lead             bool // the next command's first byte has been sent
	doing            string
	proved           bool // a TPM has answered
	generation       byte // the first byte of the last command, and so probably of the next
}

func (s *socketLink) close() error { return nil }

func (s *socketLink) stopWaiting() { s.noWait.Store(true) }

func (s *socketLink) end() {
	if s.conn != nil {
		s.conn.Close()
		s.conn = nil
	}
}

// openSocket makes the link to the data channel of swtpm; network is unix or tcp.
func (o opener) openSocket(doing, network, address string) (*Device, error) {
	label := network + ":" + address
	s := &socketLink{network: network, address: address, label: label, waits: o.waits, doing: doing}
	return newDevice(label, s, o.waits), nil
}

// begin connects and waits until swtpm serves the connection. A TPM that ends leaves a
// broken one to those who wait.
func (s *socketLink) begin(ctx context.Context) error {
	var hung time.Time // since when it hangs up
	for {
		err := s.connect(ctx)
		if err == nil {
			err = s.awaitServed(ctx)
		}
		if err == nil {
			if s.proved {
				s.doing = "use"
			}
			return nil
		}
		s.end()
		if hung.IsZero() {
			hung = time.Now()
		}
		if !s.proved || !hungUp(err) || s.noWait.Load() || time.Since(hung) > s.waits.grace {
			return s.connectError(err)
		}
		if waiting := sleep(ctx, reconnectPause); waiting != nil {
			return s.connectError(fmt.Errorf("%w, %w", err, waited(waiting, s.waits.turn)))
		}
	}
}

// reconnectPause is how often a TPM is tried that is not there for the moment.
const reconnectPause = 5 * time.Millisecond

// hungUp reports whether the peer has ended a connection.
func hungUp(err error) bool {
	return errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, io.ErrUnexpectedEOF)
}

// connect opens a connection. A TPM that was there before may be just starting
// anew.
func (s *socketLink) connect(ctx context.Context) error {
	for begin := time.Now(); ; {
		conn, err := dialStream(ctx, s.network, s.address)
		if err == nil {
			s.conn = conn
			return nil
		}
		absent := errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, syscall.ENOENT) || errors.Is(err, syscall.ECONNRESET)
		if s.revive == nil && !s.proved || !absent {
			return err
		}
		if s.noWait.Load() || time.Since(begin) > s.waits.grace {
			return fmt.Errorf("%w for %v: %w", ErrAway, s.waits.grace, err)
		}
		if s.revive != nil {
			if err := s.revive(); err != nil && !errors.Is(err, emulator.ErrKilled) {
				return err
			}
		}
		if ended := sleep(ctx, reconnectPause); ended != nil {
			return fmt.Errorf("%w: %w: %w", ErrAway, err, ended)
		}
	}
}

// awaitServed sends the first byte of a command, which executes nothing, and waits
// until swtpm has read it: then this is the connection that it serves.
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
	if s.conn.ended() { // it took nothing
		return fmt.Errorf("wait to be served: %w", syscall.ECONNRESET)
	}
	s.lead = true
	return nil
}

// ended says why a context has ended: the end's kind, and its cause.
func ended(ctx context.Context) error {
	kind, cause := ctx.Err(), context.Cause(ctx)
	if cause == errWaitOver || errors.Is(cause, kind) {
		return cause
	}
	return fmt.Errorf("%w: %w", kind, cause)
}

// sleep waits, but no longer than ctx.
func sleep(ctx context.Context, d time.Duration) error {
	if d < time.Millisecond { // a timer would not be worth it
		if ctx.Err() != nil {
			return ended(ctx)
		}
		time.Sleep(d)
		return nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ended(ctx)
	case <-timer.C:
		return nil
	}
}

func (s *socketLink) exchange(cmd []byte, limit time.Duration) ([]byte, error) {
	if s.conn == nil {
		return nil, os.ErrClosed
	}
	if !s.proved {
		limit = min(limit, s.waits.probe)
	}
	rest := cmd
	if s.lead {
		if err := s.ensureLead(cmd[0], limit); err != nil {
			return nil, &notSent{err}
		}
		s.lead = false
		rest = cmd[1:]
	}
	s.generation = cmd[0]
	rsp, err := exchange(s.conn, rest, limit)
	if s.proved {
		return rsp, err
	}
	if err != nil {
		return nil, s.probeError(rsp, err)
	}
	s.setProved()
	return rsp, nil
}

// setProved notes that a TPM is there.
func (s *socketLink) setProved() { s.proved, s.doing = true, "use" }

// ensureLead sees that the byte that was sent ahead is the command's: a TPM 2.0's
// first commands are those by which it is found to be one.
func (s *socketLink) ensureLead(first byte, limit time.Duration) error {
	if s.generation == first {
		return nil
	}
	s.end()
	s.generation = first
	ctx, cancel := context.WithTimeout(context.Background(), min(limit, s.waits.turn))
	defer cancel()
	return s.begin(ctx)
}

// probeCommand is the command of a probe.
var probeCommand = frame.Probe()

// probe sends a short command to see whether this connection is served, where nothing
// else tells. A command that others' commands keep waiting would be carried out
// even after it was given up.
func (s *socketLink) probe(ctx context.Context) error {
	conn := s.conn
	stop := context.AfterFunc(ctx, func() { conn.Close() }) // a deadline would be set anew
	rsp, err := exchange(conn, probeCommand, s.waits.turn)
	if !stop() {
		err = waited(ended(ctx), s.waits.turn)
		if len(rsp) == 0 || frame.CheckResponse(rsp) == nil {
			return s.connectError(ended(ctx))
		}
	}
	if err != nil {
		return s.probeError(rsp, err)
	}
	s.setProved()
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
	case s.proved && hungUp(err):
		return failure(s.doing, s.label, ErrGone, "is swtpm running? %w", err)
	case errors.Is(err, errWaitOver), errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return failure(s.doing, s.label, ErrBusy, "%s: %w", othersServed, waited(err, s.waits.turn))
	case errors.Is(err, os.ErrDeadlineExceeded): // of a dialer; a full queue does not answer, either
		return failure(s.doing, s.label, ErrBusy, "%s, unless the host does not answer: %w", othersServed, waited(errWaitOver, s.waits.turn))
	case s.proved:
		return failure(s.doing, s.label, ErrGone, "is swtpm running? %w", err)
	}
	return failure(s.doing, s.label, ErrNoTPM, "is swtpm running? This wants the data channel of a running swtpm "+
		"(its --server): %w", err)
}

// waited names the end of a wait: the TPM's own limit, or the caller's.
func waited(err error, limit time.Duration) error {
	if errors.Is(err, errWaitOver) {
		return fmt.Errorf("waited %v", limit)
	}
	return err
}

// othersServed is what keeps everybody else waiting.
const othersServed = "another program is using it, and swtpm serves one at a time; stop it or wait, and try again"

// probeError says what a first command met instead of a TPM.
func (s *socketLink) probeError(rsp []byte, err error) error {
	switch {
	case isControlAnswer(rsp):
		return failure(s.doing, s.label, ErrNoTPM, "this is swtpm's control channel: give its data channel, the one named by swtpm's --server")
	case errors.Is(err, os.ErrDeadlineExceeded) && len(rsp) == 0:
		return failure(s.doing, s.label, ErrBusy, "it takes connections but gave no answer within %v: %s", min(s.waits.probe, s.waits.turn), othersServed)
	}
	if s.proved {
		return failure(s.doing, s.label, ErrGone, "%w", err)
	}
	return failure(s.doing, s.label, ErrNoTPM, "what listens there does not answer like a TPM (the data channel of swtpm would): %w", err)
}

// isControlAnswer recognises what swtpm's control channel says to a TPM command:
// a bare result code, TPM_BAD_ORDINAL.
func isControlAnswer(rsp []byte) bool {
	return len(rsp) == 4 && binary.BigEndian.Uint32(rsp) == 0x0000000A
}
