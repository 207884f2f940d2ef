package tpmtest

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"time"

	"maclef/internal/relay"
)

// Kinds of handles. TPM Main Part 2, section 4.1 (TPM_RESOURCE_TYPE).
const (
	resourceKey  = 1
	resourceAuth = 2
)

// Ordinals. TPM Main Part 2, section 17.
const (
	ordUnBind        = 0x1e
	ordSign          = 0x3c
	ordGetCapability = 0x65
	ordFlushSpecific = 0xba
)

// truth does to the TPM what it would have done itself when it refused cmd with
// code, so that no session or key stays of which a client was told that it is
// gone.
//
//   - A fatal error (below 0x800) ends the command's session. TPM Main Part 1,
//     section on error handling; the others leave everything as it was.
//   - A key or session that is said not to be there is not there.
//   - A TPM that says TPM_INVALID_POSTINIT waits for TPM_Startup.
func truth(p *Proxy, code uint32, cmd []byte) {
	if relay.Is20(cmd) {
		truth20(p, code, cmd)
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
	ordinal := relay.Code(cmd)
	switch {
	case ordinal == ordFlushSpecific && (code == 0x03 || code == 0x0c || code == 0x22 || code == 0x58):
		p.flush(handle, resourceKey)
		p.flush(handle, resourceAuth)
	case (ordinal == ordSign || ordinal == ordUnBind) && (code == 0x0c || code == 0x0d || code == 0x58):
		p.flush(handle, resourceKey)
	}
}

// FlushKeys frees all keys that are in the TPM.
func (p *Proxy) FlushKeys() {
	if p.sw.state.tpm2 {
		p.flush20(transients)
		return
	}
	p.flushAll(resourceKey)
}

// FlushSessions frees all sessions that are in the TPM.
func (p *Proxy) FlushSessions() {
	if p.sw.state.tpm2 {
		p.flush20(loadedSessions, savedSessions)
		return
	}
	p.flushAll(resourceAuth)
}

func (p *Proxy) flushAll(resource uint32) {
	ask := []byte{0, 0xC1, 0, 0, 0, 22, 0, 0, 0, ordGetCapability, 0, 0, 0, 0x14, 0, 0, 0, 4}
	rsp, err := p.Send(binary.BigEndian.AppendUint32(ask, resource))
	if err != nil || len(rsp) < 16 {
		return
	}
	for list := rsp[16:]; len(list) >= 4; list = list[4:] {
		p.flush(binary.BigEndian.Uint32(list), resource)
	}
}

func (p *Proxy) flush(handle, resource uint32) {
	cmd := []byte{0, 0xC1, 0, 0, 0, 18, 0, 0, 0, ordFlushSpecific}
	cmd = binary.BigEndian.AppendUint32(cmd, handle)
	p.Send(binary.BigEndian.AppendUint32(cmd, resource))
}

// restart ends the software TPM and starts it again.
func (p *Proxy) restart() {
	p.redial()
	p.sw.Restart()
}

// initialize is what power management does to a TPM: what was loaded is lost, and
// TPM_Startup has to come next. swtpm(8), CMD_INIT of the control channel.
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

// Revive makes the TPM as it was when it was started: nothing loaded, and started up.
func (p *Proxy) Revive() {
	startup := []byte{0, 0xC1, 0, 0, 0, 12, 0, 0, 0, 0x99, 0, 1} // TPM_ST_CLEAR
	if p.sw.state.tpm2 {
		startup = startup20
	}
	p.Send(startup) // refused where it is not needed
	p.FlushKeys()
	p.FlushSessions()
}
