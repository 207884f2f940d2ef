package tpmtest

import "maclef/internal/relay"

// Codes of TPM 2.0 that say that something is not there. TPM 2.0 Library Part 2,
// section 6.6.3 (TPM_RC).
const (
	rcInitialize = 0x100
	rcReferenceH = 0x910 // and up to 6 more, for each handle
	rcReferenceS = 0x918 // and up to 6 more, for each session

	rcFormat1   = 0x080
	rcParameter = 0x040
	rcSession   = 0x800 // in format 1
	rcValue     = 0x004
	rcHandle    = 0x00B
	ccFlush     = 0x165
)

// truth20 is [truth] for a TPM 2.0, which leaves everything as it was when it refuses
// a command. But what is said not to be there is not there, and a TPM that says
// TPM_RC_INITIALIZE waits for TPM2_Startup.
func truth20(p *Proxy, code uint32, cmd []byte) {
	handles, sessions := relay.Parts20(cmd)
	if code == rcInitialize {
		p.initialize()
		return
	}
	if relay.Code(cmd) == ccFlush && len(cmd) >= 14 { // its handle is a parameter
		handles = words(cmd[10:14])
	}
	const whose = 0xFF0000 // who says it: the TPM, or what is before it
	code &^= whose
	number := int(code>>8&0x7) - 1 // of the handle or session, in format 1
	switch kind := code &^ 0xF3F; {
	case code >= rcReferenceH && code < rcReferenceH+7:
		p.flushNth(handles, int(code-rcReferenceH))
	case code >= rcReferenceS && code < rcReferenceS+7:
		p.flushNth(sessions, int(code-rcReferenceS))
	case kind != rcFormat1 && kind != rcFormat1|rcParameter || code&0x3F != rcHandle && code&0x3F != rcValue:
	case kind == rcFormat1|rcParameter && relay.Code(cmd) == ccFlush, kind == rcFormat1 && code&rcSession == 0:
		p.flushNth(handles, number)
	case kind == rcFormat1:
		p.flushNth(sessions, number)
	}
}

func words(b []byte) (all []uint32) {
	for ; len(b) >= 4; b = b[4:] {
		all = append(all, uint32(b[0])<<24|uint32(b[1])<<16|uint32(b[2])<<8|uint32(b[3]))
	}
	return all
}

// flushNth flushes what one of a command's handles stands for, if it can be flushed.
func (p *Proxy) flushNth(handles []uint32, n int) {
	if n < 0 || n >= len(handles) {
		return
	}
	switch handles[n] & 0xFF000000 {
	case transients, loadedSessions, savedSessions:
		p.Send(command(0x8001, ccFlush, handles[n:n+1]))
	}
}

// flush20 frees everything whose handles begin so.
func (p *Proxy) flush20(kinds ...uint32) {
	for _, kind := range kinds {
		all, _ := Handles20(p, kind)
		for n := range all {
			p.flushNth(all, n)
		}
	}
}
