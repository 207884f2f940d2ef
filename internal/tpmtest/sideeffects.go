package tpmtest

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"time"

	"maclef/internal/transport/frame"
)

// Ordinals. TPM Main Part 2, section 17 (Ordinals).
const (
	ordUnBind        = 0x1e
	ordSign          = 0x3c
	ordGetCapability = 0x65
	ordFlushSpecific = 0xba
)

// applySideEffects changes the TPM as if it had refused cmd with code itself, so that no
// session or key stays that the client takes for lost.
//
//   - A fatal error (below 0x800) ends the command's session. Other errors change nothing. TPM Main
//     Part 1, section on error handling.
//   - If the code says that a key or session does not exist, it is flushed.
//   - After TPM_INVALID_POSTINIT the TPM waits for TPM_Startup.
func applySideEffects(p *Proxy, code uint32, cmd []byte) {
	if Is20(cmd) {
		applySideEffects20(p, code, cmd)
		return
	}
	if code == 0x26 {
		p.initialize()
	}
	if code >= 0x800 || code == 0x26 || len(cmd) < 14 {
		return
	}
	if binary.BigEndian.Uint16(cmd) == 0x00C2 && len(cmd) >= 10+45 {
		p.flush(binary.BigEndian.Uint32(cmd[len(cmd)-45:]), resourceAuth)
	}
	handle := binary.BigEndian.Uint32(cmd[10:])
	ordinal := frame.Code(cmd)
	switch {
	case ordinal == ordFlushSpecific && (code == 0x03 || code == 0x0c || code == 0x22 || code == 0x58):
		p.flush(handle, resourceKey)
		p.flush(handle, resourceAuth)
	case (ordinal == ordSign || ordinal == ordUnBind) && (code == 0x0c || code == 0x0d || code == 0x58):
		p.flush(handle, resourceKey)
	}
}

// FlushKeys flushes all keys in the TPM.
func (p *Proxy) FlushKeys() {
	if p.sw.state.tpm2 {
		p.flush20(transients)
		return
	}
	p.flushAll(resourceKey)
}

// FlushSessions flushes all sessions in the TPM.
func (p *Proxy) FlushSessions() {
	if p.sw.state.tpm2 {
		p.flush20(loadedSessions, savedSessions)
		return
	}
	p.flushAll(resourceAuth)
}

func (p *Proxy) flushAll(resource uint32) {
	all, _ := Handles12(p, resource)
	for _, handle := range all {
		p.flush(handle, resource)
	}
}

func (p *Proxy) flush(handle, resource uint32) {
	cmd := []byte{0, 0xC1, 0, 0, 0, 18, 0, 0, 0, ordFlushSpecific}
	cmd = binary.BigEndian.AppendUint32(cmd, handle)
	p.Send(binary.BigEndian.AppendUint32(cmd, resource))
}

// restart kills the software TPM and starts it again.
func (p *Proxy) restart() {
	p.closeUpstream()
	p.sw.Restart()
}

// initialize resets the TPM as power management does: it loses what was loaded and needs
// TPM_Startup. swtpm(8), CMD_INIT of the control channel.
func (p *Proxy) initialize() {
	if err := p.control([]byte{0, 0, 0, 2, 0, 0, 0, 0}); err != nil {
		panic(fmt.Sprintf("swtpm's control channel: %v", err))
	}
}

func (p *Proxy) control(request []byte) error {
	conn, err := net.Dial("unix", filepath.Join(p.sw.Dir, "ctrl"))
	if err != nil {
		return err
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(time.Minute))
	if _, err := conn.Write(request); err != nil {
		return err
	}
	var code [4]byte
	if _, err := io.ReadFull(conn, code[:]); err != nil {
		return err
	}
	if code != [4]byte{} {
		return fmt.Errorf("result %x", code)
	}
	return nil
}

// Revive brings the TPM back to its state after the start: started up, with nothing loaded.
func (p *Proxy) Revive() {
	startup := []byte{0, 0xC1, 0, 0, 0, 12, 0, 0, 0, 0x99, 0, 1} // TPM_ST_CLEAR
	if p.sw.state.tpm2 {
		startup = startup20
	}
	p.Send(startup) // refused if it is not needed
	p.FlushKeys()
	p.FlushSessions()
}

// TPM 2.0 codes for something that does not exist. TPM 2.0 Library Part 2, section 6.6.3
// (TPM_RC).
const (
	rcInitialize = 0x100
	rcReferenceH = 0x910 // for the first of 7 handles
	rcReferenceS = 0x918 // for the first of 7 sessions

	rcFormat1   = 0x080
	rcParameter = 0x040
	rcSession   = 0x800 // in format 1
	rcValue     = 0x004
	rcHandle    = 0x00B
	ccFlush     = 0x165
)

// applySideEffects20 is applySideEffects for a TPM 2.0. A refused command changes nothing
// in it. But if the code says that a key or session does not exist, that is flushed. After
// TPM_RC_INITIALIZE the TPM waits for TPM2_Startup.
func applySideEffects20(p *Proxy, code uint32, cmd []byte) {
	handles, sessions := Parts20(cmd)
	if code == rcInitialize {
		p.initialize()
		return
	}
	if frame.Code(cmd) == ccFlush && len(cmd) >= 14 { // its handle is a parameter
		handles = uint32s(cmd[10:14])
	}
	const whose = 0xFF0000 // the layer: the TPM, or a resource manager
	code &^= whose
	number := int(code>>8&0x7) - 1 // of the handle or session, in format 1
	switch kind := code &^ 0xF3F; {
	case code >= rcReferenceH && code < rcReferenceH+7:
		p.flushHandle(handles, int(code-rcReferenceH))
	case code >= rcReferenceS && code < rcReferenceS+7:
		p.flushHandle(sessions, int(code-rcReferenceS))
	case kind != rcFormat1 && kind != rcFormat1|rcParameter || code&0x3F != rcHandle && code&0x3F != rcValue:
	case kind == rcFormat1|rcParameter && frame.Code(cmd) == ccFlush, kind == rcFormat1 && code&rcSession == 0:
		p.flushHandle(handles, number)
	case kind == rcFormat1:
		p.flushHandle(sessions, number)
	}
}

func uint32s(b []byte) (all []uint32) {
	for ; len(b) >= 4; b = b[4:] {
		all = append(all, uint32(b[0])<<24|uint32(b[1])<<16|uint32(b[2])<<8|uint32(b[3]))
	}
	return all
}

// flushHandle flushes the handle with index n of a command, if it can be flushed.
func (p *Proxy) flushHandle(handles []uint32, n int) {
	if n < 0 || n >= len(handles) {
		return
	}
	switch handles[n] & 0xFF000000 {
	case transients, loadedSessions, savedSessions:
		p.Send(command(0x8001, ccFlush, handles[n:n+1]))
	}
}

// flush20 flushes everything whose handles are of these kinds.
func (p *Proxy) flush20(kinds ...uint32) {
	for _, kind := range kinds {
		all, _ := Handles20(p, kind)
		for n := range all {
			p.flushHandle(all, n)
		}
	}
}
