//go:build linux

package main

import (
	"cmp"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"

	"maclef/internal/relay"
	"maclef/internal/tpm12"
)

// A proxy stands between programs and a software TPM, and counts the commands. It
// takes time, so nothing is timed through it.
type proxy struct {
	relay *relay.Relay

	mu     sync.Mutex
	counts map[command]int
}

// A command is one of either generation; name is without "TPM_" or "TPM2_".
type command struct {
	code uint32
	name string
}

func commandOf(cmd []byte) command {
	code := relay.Code(cmd)
	if relay.Is20(cmd) {
		return command{code, strings.TrimPrefix(relay.CommandName(cmd), "TPM2_")}
	}
	return command{code, strings.TrimPrefix(tpm12.Ordinal(code).String(), "TPM_")}
}

// newProxy listens beside the TPM's own socket.
func newProxy(s *softTPM) (p *proxy, err error) {
	p = &proxy{counts: make(map[command]int)}
	p.relay, err = relay.Listen(s.path("proxy"), s.socket(), false, p.pass)
	return p, err
}

// name is what tpmkey.Open takes.
func (p *proxy) name() string { return p.relay.Name }

func (p *proxy) close() { p.relay.Close() }

func (p *proxy) pass(c *relay.Conn, cmd []byte) ([]byte, error) {
	p.mu.Lock()
	p.counts[commandOf(cmd)]++
	p.mu.Unlock()
	return c.Send(cmd)
}

// reset starts counting anew.
func (p *proxy) reset() {
	p.mu.Lock()
	defer p.mu.Unlock()
	clear(p.counts)
}

// count returns how many commands of some names there were since reset, of all
// where none is given.
func (p *proxy) count(names ...string) (n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c, times := range p.counts {
		if len(names) == 0 || slices.Contains(names, c.name) {
			n += times
		}
	}
	return n
}

// list names the commands since reset, in the order of their codes.
func (p *proxy) list() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	commands := slices.SortedFunc(maps.Keys(p.counts), func(a, b command) int {
		return cmp.Or(cmp.Compare(a.code, b.code), strings.Compare(a.name, b.name))
	})
	var names []string
	for _, c := range commands {
		name := c.name
		if n := p.counts[c]; n > 1 {
			name += " ×" + strconv.Itoa(n)
		}
		names = append(names, name)
	}
	return strings.Join(names, ", ")
}
