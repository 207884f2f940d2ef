package tpmtest

import (
	"encoding/binary"
	"fmt"
	"slices"
	"time"
)

// noAnswer drops a response.
func noAnswer(cmd, rsp []byte) []byte { return nil }

// CutFaults cut the connection at the first byte of the command, before the TPM gets the
// command, or after the TPM has carried it out.
func CutFaults() []Fault {
	return []Fault{
		{Name: "cut at the first byte", Early: true},
		{Name: "cut before", Lost: true, Cut: true},
		{Name: "cut after", Answer: noAnswer, Cut: true},
	}
}

// GarbledFaults are malformed responses to a command that was carried out: too short, too
// long, or with a wrong tag or size. If the client waits for more bytes, none come until it
// closes the connection or silence has passed.
func GarbledFaults(silence time.Duration) []Fault {
	var all []Fault
	add := func(name string, change func(rsp []byte) []byte, f Fault) {
		f.Name, f.Answer = name, func(_, rsp []byte) []byte { return change(rsp) }
		all = append(all, f)
	}
	for _, n := range []int{1, 6, 10, 14, -1} {
		shorten := func(rsp []byte) []byte {
			if n < 0 {
				return rsp[:len(rsp)+n]
			}
			return rsp[:min(n, len(rsp)-1)]
		}
		add(fmt.Sprintf("truncated to %d and cut", n), shorten, Fault{Cut: true})
		add(fmt.Sprintf("truncated to %d and silent", n), shorten, Fault{Silent: silence})
	}
	add("a byte too long", func(rsp []byte) []byte { return append(rsp, 0) }, Fault{})
	add("followed by a success", func(rsp []byte) []byte { return append(rsp, refusalFor(rsp, 0)...) }, Fault{})
	add("answered twice", func(rsp []byte) []byte { return append(rsp, rsp...) }, Fault{})
	for _, tag := range []uint16{0, 0x00C1, 0x00C4, 0x00C5, 0x00C6, 0x8001, 0x8002, 0xFFFF} {
		add(fmt.Sprintf("tag %#04x", tag), func(rsp []byte) []byte {
			wrong := tag
			if binary.BigEndian.Uint16(rsp) == tag { // this tag would be correct
				wrong = 0x00C7
			}
			binary.BigEndian.PutUint16(rsp, wrong)
			return rsp
		}, Fault{})
	}
	size := func(change func(size int) uint32) func([]byte) []byte {
		return func(rsp []byte) []byte {
			binary.BigEndian.PutUint32(rsp[2:], change(len(rsp)))
			return rsp
		}
	}
	add("size too small", size(func(n int) uint32 { return uint32(n - 1) }), Fault{})
	add("size 10", size(func(int) uint32 { return 10 }), Fault{})
	add("size 9", size(func(int) uint32 { return 9 }), Fault{})
	add("size too big and cut", size(func(n int) uint32 { return uint32(n + 1) }), Fault{Cut: true})
	add("size too big and silent", size(func(n int) uint32 { return uint32(n + 1) }), Fault{Silent: silence})
	add("size 4097", size(func(int) uint32 { return 4097 }), Fault{})
	add("size huge", size(func(int) uint32 { return 0xFFFFFFFF }), Fault{})
	add("empty success", func(rsp []byte) []byte { return refusalFor(rsp, 0) }, Fault{})
	add("a refusal with the tag of a success", func(rsp []byte) []byte {
		wrong := refusalFor(rsp, 3)
		wrong[1]++ // TPM_TAG_RSP_AUTH1_COMMAND, TPM_ST_SESSIONS
		return wrong
	}, Fault{})
	add("zeroes", func(rsp []byte) []byte { return make([]byte, len(rsp)) }, Fault{Cut: true})
	add("HTTP", func([]byte) []byte { return []byte("HTTP/1.1 400 Bad Request\r\n\r\n") }, Fault{Cut: true})
	return all
}

// Refusal returns the response of a TPM 1.2 with a result code.
func Refusal(code uint32) []byte {
	return binary.BigEndian.AppendUint32([]byte{0, 0xC4, 0, 0, 0, 10}, code)
}

// Refusal20 returns the response of a TPM 2.0 with a result code.
func Refusal20(code uint32) []byte {
	return binary.BigEndian.AppendUint32([]byte{0x80, 0x01, 0, 0, 0, 10}, code)
}

// refusalFor returns a response with a result code, for the generation of a message.
func refusalFor(message []byte, code uint32) []byte {
	if Is20(message) {
		return Refusal20(code)
	}
	return Refusal(code)
}

// Refused is a TPM that refuses a command with code. It makes the real TPM lose what it
// would have lost with this code: see applySideEffects.
func Refused(code uint32) Fault {
	return Fault{
		Name:   fmt.Sprintf("code %#x", code),
		Before: func(p *Proxy, cmd []byte) { applySideEffects(p, code, cmd) },
		Lost:   true,
		Answer: func(cmd, _ []byte) []byte { return refusalFor(cmd, code) },
	}
}

// RefusedAndKept is Refused, but the session of the command stays open.
func RefusedAndKept(code uint32) Fault {
	f := Refused(code)
	f.Name += ", session kept"
	f.Before = nil
	return f
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

// Late is a TPM that gets the command after a delay.
func Late(delay time.Duration) Fault {
	return Fault{Name: fmt.Sprintf("%v late", delay), Delay: delay}
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
