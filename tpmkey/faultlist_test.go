package tpmkey_test

import (
	"encoding/binary"
	"fmt"
	"time"

	"maclef/internal/tpmtest"
)

// cutFaults cut the connection at the first byte of the command, before the TPM gets the
// command, or after the TPM has carried it out.
func cutFaults() []tpmtest.Fault {
	return []tpmtest.Fault{
		{Name: "cut at the first byte", Early: true},
		{Name: "cut before", Lost: true, Cut: true},
		{Name: "cut after", Answer: func(_, _ []byte) []byte { return nil }, Cut: true},
	}
}

// garbledFaults are malformed responses to a command that was carried out: too short, too
// long, or with a wrong tag or size. If the client waits for more bytes, none come until it
// closes the connection or silence has passed.
func garbledFaults(silence time.Duration) []tpmtest.Fault {
	var all []tpmtest.Fault
	add := func(name string, change func(rsp []byte) []byte, f tpmtest.Fault) {
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
		add(fmt.Sprintf("truncated to %d and cut", n), shorten, tpmtest.Fault{Cut: true})
		add(fmt.Sprintf("truncated to %d and silent", n), shorten, tpmtest.Fault{Silent: silence})
	}
	add("a byte too long", func(rsp []byte) []byte { return append(rsp, 0) }, tpmtest.Fault{})
	add("followed by a success", func(rsp []byte) []byte { return append(rsp, tpmtest.ErrorReplyTo(rsp, 0)...) }, tpmtest.Fault{})
	add("answered twice", func(rsp []byte) []byte { return append(rsp, rsp...) }, tpmtest.Fault{})
	for _, tag := range []uint16{0, 0x00C1, 0x00C4, 0x00C5, 0x00C6, 0x8001, 0x8002, 0xFFFF} {
		add(fmt.Sprintf("tag %#04x", tag), func(rsp []byte) []byte {
			wrong := tag
			if binary.BigEndian.Uint16(rsp) == tag { // this tag would be correct
				wrong = 0x00C7
			}
			binary.BigEndian.PutUint16(rsp, wrong)
			return rsp
		}, tpmtest.Fault{})
	}
	size := func(change func(size int) uint32) func([]byte) []byte {
		return func(rsp []byte) []byte {
			binary.BigEndian.PutUint32(rsp[2:], change(len(rsp)))
			return rsp
		}
	}
	add("size too small", size(func(n int) uint32 { return uint32(n - 1) }), tpmtest.Fault{})
	add("size 10", size(func(int) uint32 { return 10 }), tpmtest.Fault{})
	add("size 9", size(func(int) uint32 { return 9 }), tpmtest.Fault{})
	add("size too big and cut", size(func(n int) uint32 { return uint32(n + 1) }), tpmtest.Fault{Cut: true})
	add("size too big and silent", size(func(n int) uint32 { return uint32(n + 1) }), tpmtest.Fault{Silent: silence})
	add("size 4097", size(func(int) uint32 { return 4097 }), tpmtest.Fault{})
	add("size huge", size(func(int) uint32 { return 0xFFFFFFFF }), tpmtest.Fault{})
	add("empty success", func(rsp []byte) []byte { return tpmtest.ErrorReplyTo(rsp, 0) }, tpmtest.Fault{})
	add("a refusal with the tag of a success", func(rsp []byte) []byte {
		wrong := tpmtest.ErrorReplyTo(rsp, 3)
		wrong[1]++ // TPM_TAG_RSP_AUTH1_COMMAND, TPM_ST_SESSIONS
		return wrong
	}, tpmtest.Fault{})
	add("zeroes", func(rsp []byte) []byte { return make([]byte, len(rsp)) }, tpmtest.Fault{Cut: true})
	add("HTTP", func([]byte) []byte { return []byte("HTTP/1.1 400 Bad Request\r\n\r\n") }, tpmtest.Fault{Cut: true})
	return all
}

// refusedAndKept is tpmtest.Refused, but the session of the command stays open.
func refusedAndKept(code uint32) tpmtest.Fault {
	f := tpmtest.Refused(code)
	f.Name += ", session kept"
	f.Before = nil
	return f
}

// late is a TPM that gets the command after a delay.
func late(delay time.Duration) tpmtest.Fault {
	return tpmtest.Fault{Name: fmt.Sprintf("%v late", delay), Delay: delay}
}

// forged is a result code in place of the answer of a command that was carried out.
func forged(code uint32) tpmtest.Fault {
	return tpmtest.Fault{
		Name:   fmt.Sprintf("code %#x in place of the answer", code),
		Answer: func(cmd, _ []byte) []byte { return tpmtest.ErrorReplyTo(cmd, code) },
	}
}
