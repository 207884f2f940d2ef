//go:build linux

package main

import (
	"encoding/binary"
	"io"
	"maps"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"

	"maclef/internal/tpm12"
)

// A proxy stands between programs and a software TPM, and counts the commands. It
// takes time, so nothing is timed through it.
type proxy struct {
	listener net.Listener
	target   string

	mu     sync.Mutex
	counts map[tpm12.Ordinal]int
}

// newProxy listens beside the TPM's own socket.
func newProxy(s *softTPM) (*proxy, error) {
	path := s.path("proxy")
	os.Remove(path)
	listener, err := net.Listen("unix", path)
	if err != nil {
		return nil, err
	}
	p := &proxy{listener: listener, target: s.socket(), counts: make(map[tpm12.Ordinal]int)}
	go p.serve()
	return p, nil
}

// name is what tpmkey.Open takes.
func (p *proxy) name() string { return "unix:" + p.listener.Addr().String() }

func (p *proxy) close() { p.listener.Close() }

func (p *proxy) serve() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		go p.pass(client)
	}
}

// pass carries the commands and responses of one client.
func (p *proxy) pass(client net.Conn) {
	defer client.Close()
	tpm, err := net.Dial("unix", p.target)
	if err != nil {
		return
	}
	defer tpm.Close()
	for {
		cmd, err := readMessage(client)
		if err != nil {
			return
		}
		p.mu.Lock()
		p.counts[tpm12.Ordinal(binary.BigEndian.Uint32(cmd[6:]))]++
		p.mu.Unlock()
		if _, err := tpm.Write(cmd); err != nil {
			return
		}
		rsp, err := readMessage(tpm)
		if err != nil {
			return
		}
		if _, err := client.Write(rsp); err != nil {
			return
		}
	}
}

// readMessage reads a command or a response: tag, size, ordinal or result, rest.
func readMessage(r io.Reader) ([]byte, error) {
	head := make([]byte, 10)
	if _, err := io.ReadFull(r, head); err != nil {
		return nil, err
	}
	rest := make([]byte, max(10, binary.BigEndian.Uint32(head[2:]))-10)
	_, err := io.ReadFull(r, rest)
	return append(head, rest...), err
}

// reset starts counting anew.
func (p *proxy) reset() {
	p.mu.Lock()
	defer p.mu.Unlock()
	clear(p.counts)
}

// count returns how many commands of some ordinals there were since reset, of all
// where none is given.
func (p *proxy) count(ordinals ...tpm12.Ordinal) (n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for ordinal, times := range p.counts {
		if len(ordinals) == 0 || slices.Contains(ordinals, ordinal) {
			n += times
		}
	}
	return n
}

// list names the commands since reset, in the order of their ordinals.
func (p *proxy) list() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	var names []string
	for _, ordinal := range slices.Sorted(maps.Keys(p.counts)) {
		name := strings.TrimPrefix(ordinal.String(), "TPM_")
		if n := p.counts[ordinal]; n > 1 {
			name += " ×" + strconv.Itoa(n)
		}
		names = append(names, name)
	}
	return strings.Join(names, ", ")
}
