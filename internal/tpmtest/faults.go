package tpmtest

import (
	"slices"
	"time"

	"maclef/internal/transport/frame"
)

// A Fault is what happens to one command. The zero value is none: the command is
// carried out and answered. Steps are taken in the order of the fields.
type Fault struct {
	Name string

	// Early cuts the connection when the command's first byte has come, and that
	// is all.
	Early bool
	// Before happens to the TPM first.
	Before func(p *Proxy, cmd []byte)
	// Delay is how late the TPM is given the command.
	Delay time.Duration
	// Lost keeps the command from the TPM.
	Lost bool
	// Answer replaces the response, which is nil for a Lost command. Without it a
	// lost command has none.
	Answer func(cmd, rsp []byte) []byte
	// Silent leaves the connection open without another byte, until the client
	// goes on or hangs up, at most this long; then it is cut. Zero is for ever.
	Silent time.Duration
	// Cut cuts the connection at once after the answer.
	Cut bool

	// Repeat is how many further commands this happens to.
	Repeat int
	// Until are the ordinals of commands that pass and end the repetition.
	Until []uint32
}

func (f *Fault) endsOn(cmd []byte) bool {
	return slices.Contains(f.Until, frame.Code(cmd)) && len(cmd) > 0
}

// do does the fault to a command. It reports whether the connection goes on.
func (p *Proxy) do(c *ProxyConn, f Fault, cmd []byte) bool {
	if f.Before != nil {
		f.Before(p, cmd)
	}
	time.Sleep(f.Delay)
	var rsp []byte
	var err error
	if !f.Lost {
		rsp, err = p.handle(c, cmd)
	}
	if f.Answer != nil && err == nil {
		rsp = f.Answer(cmd, slices.Clone(rsp))
	}
	p.note(Exchange{Ordinal: frame.Code(cmd), Command: cmd, Response: rsp, Err: err})
	if err != nil {
		return false
	}
	if _, err := c.Client.Write(rsp); err != nil {
		return false
	}
	if f.Silent > 0 {
		c.Client.SetReadDeadline(time.Now().Add(f.Silent))
	}
	return !f.Cut
}

// Arm forgets what was counted, and has f happen to the command with this index,
// counted from 0.
func (p *Proxy) Arm(index int, f Fault) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.log, p.armed, p.index, p.fault, p.left = nil, true, index, f, f.Repeat
}

// Disarm lets everything pass from now on. It reports whether the fault is past:
// it has happened, as often as it was to.
func (p *Proxy) Disarm() (past bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	past = !p.armed
	p.armed = false
	return past
}

// due returns the fault if it happens to the next command.
func (p *Proxy) due() (Fault, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.armed || len(p.log) < p.index {
		return Fault{}, false
	}
	return p.fault, true
}

// note counts a command. The fault is over when it has happened often enough.
func (p *Proxy) note(e Exchange) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.armed && len(p.log) >= p.index {
		p.left--
		p.armed = p.left >= 0 && !p.fault.endsOn(e.Command)
	}
	if p.sw != nil {
		p.log = append(p.log, e)
	}
}
