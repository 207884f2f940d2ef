// Package relay stands between programs and the socket of a software TPM, for tests
// and measurements: it sees every command, and may keep it, delay it or hang up.
package relay

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
)

// A Handler answers a command that has come from a client. With an error the
// client's connection is cut.
type Handler func(c *Conn, cmd []byte) (rsp []byte, err error)

// A Conn is the connection of one client, and one to the TPM for it.
type Conn struct {
	Client net.Conn
	tpm    net.Conn
}

// Send has the TPM carry a command out.
func (c *Conn) Send(cmd []byte) ([]byte, error) {
	if _, err := c.tpm.Write(cmd); err != nil {
		return nil, err
	}
	return ReadMessage(c.tpm)
}

// A Relay listens on a Unix socket of its own.
type Relay struct {
	// Name is the name to open it by: "unix:PATH".
	Name string

	listener net.Listener
	target   string
	handle   Handler
	clients  sync.WaitGroup
	accepted chan struct{} // closed when there will be no more clients
}

// Listen makes a relay at path, in place of one that was there and keeps its clients,
// before the TPM whose socket is target. Like swtpm a serial one serves a client after
// the other, and leaves the next ones waiting.
func Listen(path, target string, serial bool, handle Handler) (*Relay, error) {
	os.Remove(path)
	listener, err := net.Listen("unix", path)
	if err != nil {
		return nil, err
	}
	listener.(*net.UnixListener).SetUnlinkOnClose(false)
	r := &Relay{Name: "unix:" + path, listener: listener, target: target, handle: handle, accepted: make(chan struct{})}
	go r.serve(serial)
	return r, nil
}

// Close takes no new clients.
func (r *Relay) Close() { r.listener.Close() }

// Wait returns, after Close, when the last client has gone.
func (r *Relay) Wait() {
	<-r.accepted
	r.clients.Wait()
}

func (r *Relay) serve(serial bool) {
	defer close(r.accepted)
	for {
		client, err := r.listener.Accept()
		if err != nil {
			return
		}
		r.clients.Add(1)
		if serial {
			r.pass(client)
		} else {
			go r.pass(client)
		}
	}
}

// pass carries the commands and responses of one client.
func (r *Relay) pass(client net.Conn) {
	defer r.clients.Done()
	defer client.Close()
	tpm, err := net.Dial("unix", r.target)
	if err != nil {
		return
	}
	defer tpm.Close()
	for c := (&Conn{client, tpm}); ; {
		cmd, err := ReadMessage(client)
		if err != nil {
			return
		}
		rsp, err := r.handle(c, cmd)
		if err != nil {
			return
		}
		if _, err := client.Write(rsp); err != nil {
			return
		}
	}
}

// ErrHangUp is for a Handler that cuts the connection on purpose.
var ErrHangUp = errors.New("hang up")

// Sizes of messages: a header, and what swtpm and the Linux driver take.
const (
	headerSize = 10
	maxSize    = 4096
)

// ReadMessage reads a command or a response: tag, size, ordinal or result, rest.
func ReadMessage(r io.Reader) ([]byte, error) {
	b := make([]byte, headerSize, maxSize)
	if _, err := io.ReadFull(r, b); err != nil {
		return nil, err
	}
	size := binary.BigEndian.Uint32(b[2:])
	if size < headerSize || size > maxSize {
		return nil, fmt.Errorf("message of %d bytes", size)
	}
	b = b[:size]
	_, err := io.ReadFull(r, b[headerSize:])
	return b, err
}

// Code is the ordinal of a command, the result of a response, 0 for what is too short.
func Code(message []byte) uint32 {
	if len(message) < headerSize {
		return 0
	}
	return binary.BigEndian.Uint32(message[6:])
}
