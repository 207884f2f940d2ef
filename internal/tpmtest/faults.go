package tpmtest

import (
	"slices"
	"time"

	"maclef/internal/transport/frame"
)

// A Fault happens to one command. The zero value is no fault: the command is carried out
// and answered. The fields are in the order in which they take effect.
type Fault struct {
	Name string

	// Early cuts the connection at the command's first byte. No other field takes effect.
	Early bool
	// Before is called first.
	Before func(p *Proxy, cmd []byte)
	// Delay is how long the command waits before it goes to the TPM.
	Delay time.Duration
	// Lost keeps the command from the TPM.
	Lost bool
	// Answer replaces the response, which is nil for a Lost command. Without Answer, a lost
	// command gets no response.
	Answer func(cmd, rsp []byte) []byte
	// Silent is how long the connection stays open without another byte, unless the client
	// sends or closes. Then it is cut. Zero means no limit.
	Silent time.Duration
	// Cut cuts the connection right after the response.
	Cut bool

	// Repeat is the number of further commands to which the fault happens.
	Repeat int
	// Until are the ordinals of commands that pass and end the repetition.
	Until []uint32
}

func (f *Fault) endsOn(cmd []byte) bool {
	return slices.Contains(f.Until, frame.Code(cmd)) && len(cmd) > 0
}

// applyFault applies a fault to a command. It reports whether the connection stays open.
func (p *Proxy) applyFault(c *ProxyConn, f Fault, cmd []byte) bool {
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
	p.addRecord(Exchange{Ordinal: frame.Code(cmd), Command: cmd, Response: rsp, Err: err})
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

// Arm clears the record and lets f happen to the command with this index, from 0.
func (p *Proxy) Arm(index int, f Fault) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.log, p.armed, p.index, p.fault, p.left = nil, true, index, f, f.Repeat
}

// Disarm ends the faults. It reports whether the fault has happened as often as it should.
func (p *Proxy) Disarm() (past bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	past = !p.armed
	p.armed = false
	return past
}

// nextFault returns the fault if it happens to the next command.
func (p *Proxy) nextFault() (Fault, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.armed || len(p.log) < p.index {
		return Fault{}, false
	}
	return p.fault, true
}

// addRecord records a command. It ends the fault when it has happened often enough.
func (p *Proxy) addRecord(e Exchange) {
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
