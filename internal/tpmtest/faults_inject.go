package tpmtest

import (
	"net"
	"slices"
	"time"

	"maclef/internal/relay"
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
	// Cure are the ordinals of commands that pass and end the repetition.
	Cure []uint32
}

func (f *Fault) cured(cmd []byte) bool {
	return slices.Contains(f.Cure, relay.Code(cmd)) && len(cmd) > 0
}

// do does the fault to a command. It reports whether the connection goes on.
func (p *Proxy) do(conn net.Conn, f Fault, cmd []byte) bool {
	if f.Before != nil {
		f.Before(p, cmd)
	}
	time.Sleep(f.Delay)
	var rsp []byte
	var err error
	if !f.Lost {
		rsp, err = p.Send(cmd)
	}
	if f.Answer != nil && err == nil {
		rsp = f.Answer(cmd, slices.Clone(rsp))
	}
	p.note(Exchange{Ordinal: relay.Code(cmd), Command: cmd, Response: rsp, Err: err})
	if _, wrong := conn.Write(rsp); err != nil || wrong != nil {
		return false
	}
	if f.Silent > 0 {
		conn.SetReadDeadline(time.Now().Add(f.Silent))
	}
	return !f.Cut
}
