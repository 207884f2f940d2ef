package transport

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync/atomic"
	"syscall"
	"time"
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
	hasty            atomic.Bool // a TPM that is not there is not waited for
	conn             stream
	lead             bool // the next command's first byte has been sent
	doing            string
	proved           bool // a TPM has answered
	generation       byte // the first byte of the last command, and so probably of the next
}

// A stream is a connection to a TPM.
type stream interface {
	io.ReadWriteCloser
	SetDeadline(time.Time) error
	// unread is how many bytes the peer has not taken yet; -1 where that cannot
	// be known.
	unread() int
	// pending is how many bytes of the peer's have not been read.
	pending() int
	// ended reports whether the peer is known to have hung up.
	ended() bool
}

func (s *socketLink) close() error { return nil }

func (s *socketLink) hurry() { s.hasty.Store(true) }

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
			err = s.takenIn(ctx)
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
		if !s.proved || !hungUp(err) || s.hasty.Load() || time.Since(hung) > s.waits.grace {
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
		if s.hasty.Load() || time.Since(begin) > s.waits.grace {
			return fmt.Errorf("%w for %v: %w", ErrAway, s.waits.grace, err)
		}
		if s.revive != nil {
			if err := s.revive(); err != nil && !errors.Is(err, errKilled) {
				return err
			}
		}
		if ended := sleep(ctx, reconnectPause); ended != nil {
			return fmt.Errorf("%w: %w: %w", ErrAway, err, ended)
		}
	}
}

// errKilled is a TPM that was started, and ended at once, for no reason of its own.
var errKilled = errors.New("it left no message: somebody may have killed it; try again")

// takenIn sends the first byte of a command, which executes nothing, and waits
// until swtpm has read it: then this is the connection that it serves.
func (s *socketLink) takenIn(ctx context.Context) error {
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
	if cause == errWaited || errors.Is(cause, kind) {
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
		if err := s.leadWith(cmd[0], limit); err != nil {
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
	s.tookAnswer()
	return rsp, nil
}

// tookAnswer notes that a TPM is there.
func (s *socketLink) tookAnswer() { s.proved, s.doing = true, "use" }

// leadWith sees that the byte that was sent ahead is the command's: a TPM 2.0's
// first commands are those by which it is found to be one.
func (s *socketLink) leadWith(first byte, limit time.Duration) error {
	if s.generation == first {
		return nil
	}
	s.end()
	s.generation = first
	ctx, cancel := context.WithTimeout(context.Background(), min(limit, s.waits.turn))
	defer cancel()
	return s.begin(ctx)
}

// probeCommand is TPM_GetCapability for TPM_CAP_VERSION: TPM Main Part 3, section
// 7.1 (TPM_GetCapability). A TPM 2.0 refuses it in a well-formed response.
var probeCommand = [18]byte{0: 0x00, 1: 0xC1, 5: 18, 9: 0x65, 13: 0x06}

// probe sends a trifle to see whether this connection is served, where nothing
// else tells. A command that others' commands keep waiting would be carried out
// even after it was given up.
func (s *socketLink) probe(ctx context.Context) error {
	conn := s.conn
	stop := context.AfterFunc(ctx, func() { conn.Close() }) // a deadline would be set anew
	rsp, err := exchange(conn, probeCommand[:], s.waits.turn)
	if !stop() {
		err = waited(ended(ctx), s.waits.turn)
		if len(rsp) == 0 || checkResponse(rsp) == nil {
			return s.connectError(ended(ctx))
		}
	}
	if err != nil {
		return s.probeError(rsp, err)
	}
	s.tookAnswer()
	return nil
}

// knock is for how long a host may take to let a connection in before it is asked anew.
// One whose queue is full, as swtpm's is with two in it, says nothing; the kernel would ask
// again ever more rarely, half a minute apart in the end, and others would come before.
const (
	knock      = time.Second
	knockLocal = 20 * time.Millisecond // at this machine
)

// dialTCP connects to a TPM as soon as there is a place in its queue.
func dialTCP(ctx context.Context, network, address string) (net.Conn, error) {
	hosts, port, err := lookUp(ctx, address)
	if err != nil {
		return nil, err
	}
	for {
		for _, host := range hosts {
			limit := knock
			if host == "" || net.ParseIP(host).IsLoopback() {
				limit = knockLocal
			}
			attempt, cancel := context.WithTimeout(ctx, limit)
			conn, failed := new(net.Dialer).DialContext(attempt, network, net.JoinHostPort(host, port))
			cancel()
			if failed == nil {
				return conn, nil
			}
			if ctx.Err() != nil {
				return nil, ended(ctx)
			}
			err = failed
		}
		if !errors.Is(err, os.ErrDeadlineExceeded) && !errors.Is(err, context.DeadlineExceeded) {
			return nil, err
		}
	}
}

// lookUp returns the addresses of a host.
func lookUp(ctx context.Context, address string) (hosts []string, port string, err error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, "", err
	}
	if host == "" {
		return []string{""}, port, nil
	}
	hosts, err = net.DefaultResolver.LookupHost(ctx, host)
	return hosts, port, err
}
