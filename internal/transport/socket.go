package transport

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"
	"time"
)

// socketLink is a connection to a TPM that speaks on a stream.
type socketLink struct {
	conn    net.Conn
	command time.Duration
}

func (s *socketLink) begin() error { return nil }
func (s *socketLink) end()         {}
func (s *socketLink) close() error { return s.conn.Close() }

func (s *socketLink) exchange(cmd []byte) ([]byte, error) {
	return exchange(s.conn, cmd, s.command)
}

// exchange sends a command and reads its response. After an error the
// connection is out of step.
func exchange(conn net.Conn, cmd []byte, limit time.Duration) ([]byte, error) {
	if err := conn.SetDeadline(time.Now().Add(limit)); err != nil {
		return nil, fmt.Errorf("set deadline: %w", err)
	}
	if _, err := conn.Write(cmd); err != nil {
		return nil, fmt.Errorf("send command: %w", err)
	}
	rsp, err := readResponse(conn)
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return rsp, fmt.Errorf("it hung up after %d bytes of the response: %w", len(rsp), io.ErrUnexpectedEOF)
	case errors.Is(err, os.ErrDeadlineExceeded):
		return rsp, fmt.Errorf("no complete answer within %v: %w", limit, err)
	case err != nil:
		return rsp, fmt.Errorf("read response: %w", err)
	}
	return rsp, nil
}

// openSocket connects to the data channel of swtpm (network is unix or tcp) and
// finds out whether a TPM is listening there: swtpm serves one client and leaves
// the next one connected and waiting, without a word.
func (o opener) openSocket(doing, network, address string) (*Device, error) {
	name := network + ":" + address
	conn, err := dialPatiently(network, address, o.waits.probe)
	if err != nil {
		return nil, dialError(doing, name, err)
	}
	if err := probe(conn, doing, name, o.waits.probe); err != nil {
		conn.Close()
		return nil, err
	}
	return newDevice(name, &socketLink{conn: conn, command: o.waits.command}, o.waits), nil
}

// dialPatiently connects. A Unix socket whose queue is full says so at once, and
// the queue may be full of clients that have already left.
func dialPatiently(network, address string, limit time.Duration) (net.Conn, error) {
	deadline := time.Now().Add(limit)
	for pause := time.Millisecond; ; pause = min(2*pause, 100*time.Millisecond) {
		conn, err := dial(network, address, deadline)
		if !errors.Is(err, syscall.EAGAIN) || time.Now().Add(pause).After(deadline) {
			return conn, err
		}
		time.Sleep(pause)
	}
}

func dial(network, address string, deadline time.Time) (net.Conn, error) {
	ctx, cancel := context.WithDeadline(context.Background(), deadline)
	defer cancel()
	if network == "unix" {
		return dialUnix(ctx, address)
	}
	return new(net.Dialer).DialContext(ctx, network, address)
}

// dialError explains why there is no connection.
func dialError(doing, name string, err error) error {
	var noHost *net.DNSError
	var badAddress *net.AddrError
	switch {
	case errors.Is(err, os.ErrPermission):
		return failure(doing, name, ErrPermission, "become a user who may write to this socket: %w", err)
	case errors.As(err, &noHost), errors.As(err, &badAddress):
		return failure(doing, name, ErrNoTPM, "check the name, which is tcp:HOST:PORT: %w", err)
	case errors.Is(err, syscall.EAGAIN), errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, context.DeadlineExceeded):
		return failure(doing, name, ErrBusy, "other programs are waiting for it already, it serves one at a time; "+
			"stop them or wait, then try again: %w", err)
	}
	return failure(doing, name, ErrNoTPM, "is swtpm running? This wants the data channel of a running swtpm "+
		"(its --server): %w", err)
}

// probeCommand is TPM_GetCapability for TPM_CAP_VERSION: TPM Main Part 3, section
// 7.1 (TPM_GetCapability). A TPM 2.0 refuses it in a well-formed response.
var probeCommand = [18]byte{0: 0x00, 1: 0xC1, 5: 18, 9: 0x65, 13: 0x06}

// probe sends a trifle to see whether a TPM answers.
func probe(conn net.Conn, doing, name string, limit time.Duration) error {
	rsp, err := exchange(conn, probeCommand[:], limit)
	switch {
	case err == nil:
		return nil
	case isControlAnswer(rsp):
		return failure(doing, name, ErrNoTPM, "this is swtpm's control channel: give its data channel, the one named by swtpm's --server")
	case errors.Is(err, os.ErrDeadlineExceeded) && len(rsp) == 0:
		return failure(doing, name, ErrBusy, "it takes connections but gave no answer within %v: another program is "+
			"probably using this TPM, which serves one at a time; stop that program or wait, then try again", limit)
	}
	return failure(doing, name, ErrNoTPM, "what listens there does not answer like a TPM (the data channel of swtpm would): %w", err)
}

// isControlAnswer recognises what swtpm's control channel says to a TPM command:
// a bare result code, TPM_BAD_ORDINAL.
func isControlAnswer(rsp []byte) bool {
	return len(rsp) == 4 && binary.BigEndian.Uint32(rsp) == 0x0000000A
}
