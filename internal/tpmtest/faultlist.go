package tpmtest

import (
	"encoding/binary"
	"fmt"
	"slices"
	"time"
)

// ErrorReply returns the response of a TPM 1.2 with a result code.
func ErrorReply(code uint32) []byte {
	return binary.BigEndian.AppendUint32([]byte{0, 0xC4, 0, 0, 0, 10}, code)
}

// ErrorReply20 returns the response of a TPM 2.0 with a result code.
func ErrorReply20(code uint32) []byte {
	return binary.BigEndian.AppendUint32([]byte{0x80, 0x01, 0, 0, 0, 10}, code)
}

// ErrorReplyTo returns a response with a result code, for the generation of a message.
func ErrorReplyTo(message []byte, code uint32) []byte {
	if Is20(message) {
		return ErrorReply20(code)
	}
	return ErrorReply(code)
}

// Refused is a TPM that refuses a command with code. It makes the real TPM lose what it
// would have lost with this code: see applySideEffects.
func Refused(code uint32) Fault {
	return Fault{
		Name:   fmt.Sprintf("code %#x", code),
		Before: func(p *Proxy, cmd []byte) { applySideEffects(p, code, cmd) },
		Lost:   true,
		Answer: func(cmd, _ []byte) []byte { return ErrorReplyTo(cmd, code) },
	}
}

// RefusedOften is a TPM that refuses this command and the given number of further ones, or
// until it gets a command with one of the ordinals until.
func RefusedOften(code uint32, further int, until ...uint32) Fault {
	f := Refused(code)
	f.Name += fmt.Sprintf(" %d times", further+1)
	if len(until) > 0 {
		f.Name = fmt.Sprintf("code %#x until ordinal %#x", code, until)
	}
	f.Repeat, f.Until = further, until
	return f
}

// LostStates are TPMs that have lost their contents: they restarted, with or without
// startup, or another program has flushed keys or sessions.
func LostStates() []Fault {
	return []Fault{
		{Name: "restarted", Before: func(p *Proxy, _ []byte) { p.restart() }},
		{Name: "restarted, connection cut", Before: func(p *Proxy, _ []byte) { p.restart() }, Lost: true, Cut: true},
		{Name: "restarted without TPM_Startup", Before: func(p *Proxy, _ []byte) { p.initialize() }},
		{Name: "keys flushed", Before: func(p *Proxy, _ []byte) { p.FlushKeys() }},
		{Name: "sessions flushed", Before: func(p *Proxy, _ []byte) { p.FlushSessions() }},
		{Name: "keys and sessions flushed", Before: func(p *Proxy, _ []byte) { p.FlushKeys(); p.FlushSessions() }},
	}
}

// LostStates20 are LostStates of a TPM 2.0. A restart without TPM2_Shutdown may count as a
// wrong secret, so there is also a restart after TPM2_Shutdown.
func LostStates20() []Fault {
	return append(LostStates(), Fault{Name: "restarted in order", Before: func(p *Proxy, _ []byte) {
		p.Send(shutdown20)
		p.restart()
	}})
}

// Flipped flips one bit of the response. If the client then waits for more bytes, none come
// until it closes the connection or silence has passed.
func Flipped(bit int, silence time.Duration) Fault {
	return Fault{
		Name: fmt.Sprintf("bit %d flipped", bit),
		Answer: func(_, rsp []byte) []byte {
			rsp = slices.Clone(rsp)
			rsp[bit/8%len(rsp)] ^= 1 << (bit % 8)
			return rsp
		},
		Silent: silence,
	}
}
