//go:build linux

package main

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"

	"maclef/internal/tpm12"
	"maclef/internal/tpmtest"
	"maclef/internal/transport/frame"
)

// A proxy stands between programs and a software TPM, and counts the commands. It
// takes time, so nothing is timed through it.
type proxy struct {
	relay *tpmtest.Proxy

	mu     sync.Mutex
	counts map[command]int
}

// A command is one of either generation; name is without "TPM_" or "TPM2_".
type command struct {
	code uint32
	name string
}

func commandOf(cmd []byte) command {
	code := frame.Code(cmd)
	if tpmtest.Is20(cmd) {
		return command{code, strings.TrimPrefix(tpmtest.CommandName(cmd), "TPM2_")}
	}
	return command{code, strings.TrimPrefix(tpm12.Ordinal(code).String(), "TPM_")}
}

// newProxy listens beside the TPM's own socket.
func newProxy(s *softTPM) (p *proxy, err error) {
	p = &proxy{counts: make(map[command]int)}
	p.relay, err = tpmtest.Listen(s.path("proxy"), s.socket(), false, p.pass)
	return p, err
}

// name is what tpmkey.Open takes.
func (p *proxy) name() string { return p.relay.Name }

func (p *proxy) close() { p.relay.Close() }

func (p *proxy) pass(c *tpmtest.ProxyConn, cmd []byte) ([]byte, error) {
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

// housekeeping are the commands by which a turn brings keys and sessions in, and takes
// them out, of both generations.
var housekeeping = []string{
	"OIAP", "OSAP", "SaveContext", "LoadContext", "FlushSpecific",
	"StartAuthSession", "ContextSave", "ContextLoad", "FlushContext",
}

// count returns how many commands there were since reset, and how many of some names.
func (p *proxy) count(names ...string) (all, named int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c, times := range p.counts {
		all += times
		if slices.Contains(names, c.name) {
			named += times
		}
	}
	return all, named
}

// counted fills in how many TPM commands each of so many operations took, and demands
// that most of them at most are not housekeeping. others are commands of something else.
func (r *row) counted(p *proxy, done, others int, most float64) {
	all, kept := p.count(housekeeping...)
	r.commands = fmt.Sprintf("%.2f", float64(all-others)/float64(done))
	r.goals = append(r.goals, atMost("commands within a turn", most, float64(all-kept-others)/float64(done)))
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
