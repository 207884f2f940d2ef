package tpmtest

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"

	"maclef/internal/transport/frame"
)

// getRandom is TPM2_GetRandom of 8 bytes: TPM 2.0 Library Part 3, section 16.1.
var getRandom = command(0x8001, 0x17B, nil, 0, 8)

func codeOf(t *testing.T, tpm transport.TPM, cmd []byte) uint32 {
	t.Helper()
	rsp, err := tpm.Send(cmd)
	code, answered := Exchange{Response: rsp}.Code()
	if err != nil || !answered {
		t.Fatalf("%x, %v", rsp, err)
	}
	return code
}

func property(t *testing.T, tpm transport.TPM, p tpm2.TPMPT) uint32 {
	t.Helper()
	rsp, err := tpm.Send(command(0x8001, 0x17A, []uint32{6, uint32(p), 1}))
	if err != nil || len(rsp) != 27 || binary.BigEndian.Uint32(rsp[19:]) != uint32(p) {
		t.Fatalf("%x, %v", rsp, err)
	}
	return binary.BigEndian.Uint32(rsp[23:])
}

func TestStates20(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		state     State
		random    uint32 // what TPM2_GetRandom answers
		keys      int
		tries     uint32
		permanent uint32 // owner has a secret, lockout has one, in lockout
		owner     bool   // its hierarchy is there
	}{
		"new":          {TPM20, 0, 0, 0, 0, true},
		"keys":         {Keys20, 0, 1, 0, 0, true},
		"one try":      {OneTry20, 0, 1, 2, 0, true},
		"locked out":   {LockedOut20, 0, 1, 3, 1 << 9, true},
		"owned":        {Owned20, 0, 1, 0, 1<<0 | 1<<2, true},
		"without":      {OwnerOff20, 0, 1, 0, 0, false},
		"failure mode": {Failing20, 0x101, 0, 0, 0, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tpm := Start(t, row.state).Dial()
			defer tpm.Close()
			if code := codeOf(t, tpm, getRandom); code != row.random {
				t.Fatalf("TPM2_GetRandom: %#x", code)
			} else if code != 0 {
				return
			}
			keys, err := Handles20(tpm, 0x81000000)
			if err != nil || len(keys) != row.keys {
				t.Error(keys, err)
			}
			objects, err := Handles20(tpm, transients)
			if err != nil || len(objects) != 0 {
				t.Error(objects, err)
			}
			permanent, max := property(t, tpm, tpm2.TPMPTPermanent), property(t, tpm, tpm2.TPMPTMaxAuthFail)
			tries, hierarchies := property(t, tpm, tpm2.TPMPTLockoutCounter), property(t, tpm, tpm2.TPMPTStartupClear)
			if permanent&0x205 != row.permanent || tries != row.tries || max != MaxTries20 || hierarchies&2 != 0 != row.owner {
				t.Errorf("%#x, %d of %d tries, %#x", permanent, tries, max, hierarchies)
			}
		})
	}
}

// A TPM that is switched off without a word after it has looked at a secret counts a try.
func TestRestart20(t *testing.T) {
	t.Parallel()
	s := Start(t, Keys20)
	s.spendTries(1)
	s.Shutdown()
	s.Restart()
	for _, want := range []uint32{1, 2} {
		tpm := s.Dial()
		if tries := property(t, tpm, tpm2.TPMPTLockoutCounter); tries != want {
			t.Errorf("%d tries, want %d", tries, want)
		}
		tpm.Close()
		if want == 1 {
			s.Send(LockoutReset(), LockoutParameters(5, 60, 60))
			s.spendTries(1)
			s.Restart()
		}
	}
	tpm := s.Dial()
	defer tpm.Close()
	if max := property(t, tpm, tpm2.TPMPTMaxAuthFail); max != 5 {
		t.Error(max)
	}
}

func TestPCRs(t *testing.T) {
	t.Parallel()
	s := Start(t, TPM20)
	tpm := s.Dial()
	defer tpm.Close()
	read := func() []byte {
		rsp, err := tpm.Send(command(0x8001, 0x17E, []uint32{1}, 0, 0x0B, 3, 0, 0, 1)) // sha256:16
		if err != nil || len(rsp) < 32 {
			t.Fatalf("%x, %v", rsp, err)
		}
		return rsp[len(rsp)-32:]
	}
	zero := make([]byte, 32)
	if !bytes.Equal(read(), zero) || codeOf(t, tpm, PCRExtend(16, "boot")) != 0 || bytes.Equal(read(), zero) {
		t.Errorf("%x", read())
	}
	if codeOf(t, tpm, PCRReset(16)) != 0 || !bytes.Equal(read(), zero) {
		t.Errorf("%x", read())
	}
}

// loaded has an object and a session in the TPM, and a command that uses both.
func loaded(t *testing.T, p *Proxy) (use []byte, object, session uint32) {
	t.Helper()
	primary, err := tpm2.CreatePrimary{PrimaryHandle: tpm2.TPMRHOwner, InPublic: tpm2.New2B(tpm2.ECCSRKTemplate)}.Execute(p)
	if err != nil {
		t.Fatal(err)
	}
	started, err := tpm2.StartAuthSession{
		TPMKey: tpm2.TPMRHNull, Bind: tpm2.TPMRHNull, NonceCaller: tpm2.TPM2BNonce{Buffer: make([]byte, 16)},
		SessionType: tpm2.TPMSEHMAC, Symmetric: tpm2.TPMTSymDef{Algorithm: tpm2.TPMAlgNull}, AuthHash: tpm2.TPMAlgSHA256,
	}.Execute(p)
	if err != nil {
		t.Fatal(err)
	}
	object, session = uint32(primary.ObjectHandle), uint32(started.SessionHandle)
	auth := binary.BigEndian.AppendUint32([]byte{0, 0, 0, 9 + 3}, session)
	return command(0x8002, 0x15D, []uint32{object}, append(auth, 0, 1, 7, 1, 0, 2, 8, 9)...), object, session
}

// What a TPM 2.0 is said to have lost it has lost, and nothing else.
func TestSideEffects20(t *testing.T) {
	t.Parallel()
	p := StartProxy(t, Start(t, TPM20))
	flush := func(handle uint32) []byte { return command(0x8001, ccFlush, []uint32{handle}) }
	for _, row := range []struct {
		code             uint32
		object, session  bool // is gone
		flushed, noStart bool // the command is TPM2_FlushContext of the object
	}{
		{code: 0x910, object: true}, {code: 0x18B, object: true}, {code: 0x184, object: true},
		{code: 0x918, session: true}, {code: 0x98B, session: true}, {code: 0x984, session: true},
		{code: 0x911}, {code: 0x919}, {code: 0x98E}, {code: 0x9A2}, {code: 0x921}, {code: 0x922}, {code: 0x902}, {code: 0x903},
		{code: 0x101}, {code: 0x1C4}, {code: 0x1CB}, {code: 0x084}, {code: 0x12F}, {code: 0xB0143},
		{code: 0x1CB, object: true, flushed: true}, {code: 0x1C4, object: true, flushed: true}, {code: 0x910, object: true, flushed: true},
		{code: 0x100, object: true, session: true, noStart: true},
	} {
		use, object, session := loaded(t, p)
		if row.flushed {
			use = flush(object)
		}
		f := Refused(row.code)
		f.Before(p, use)
		if got := f.Answer(use, nil); !bytes.Equal(got, ErrorReply20(row.code)) {
			t.Errorf("%x", got)
		}
		if row.noStart {
			if code := codeOf(t, p, getRandom); code != 0x100 {
				t.Errorf("it is started: %#x", code)
			}
			p.Revive()
		}
		objects, err := Handles20(p, transients)
		if gone := !slices.Contains(objects, object); err != nil || gone != row.object {
			t.Errorf("%#x: object gone: %v, %v", row.code, gone, err)
		}
		sessions, err := Handles20(p, loadedSessions)
		if gone := !slices.Contains(sessions, session); err != nil || gone != row.session {
			t.Errorf("%#x: session gone: %v, %v", row.code, gone, err)
		}
		p.Revive()
	}
}

func TestFaults20HappenOnce(t *testing.T) {
	const silence = 50 * time.Millisecond
	p := StartProxy(t, Start(t, TPM20))
	all := append(LostStates20(), Fault{Early: true}, Refused(0x922), Fault{Delay: time.Millisecond}, Flipped(99, silence),
		Fault{Answer: func(_, rsp []byte) []byte { return rsp[:6] }, Silent: silence})
	for _, f := range all {
		conn := dialProxy(t, p)
		p.Arm(0, f)
		conn.Write(getRandom)
		got, err := frame.Read(conn)
		conn.Close()
		if code, _ := (Exchange{Response: got}).Code(); err == nil && len(got) == 10 && code != 0 && !Is20(got) {
			t.Errorf("%s: %x", f.Name, got)
		}
		if err := p.WaitIdle(20 * time.Second); err != nil {
			t.Error(err)
		}
		if !p.Disarm() {
			t.Errorf("%s has not happened", f.Name)
		}
		p.Revive()
		if code := codeOf(t, p, getRandom); code != 0 {
			t.Fatalf("after %s: %#x", f.Name, code)
		}
	}
}

func TestLostStates20(t *testing.T) {
	p := StartProxy(t, Start(t, TPM20))
	for _, fault := range LostStates20() {
		_, object, session := loaded(t, p)
		conn := dialProxy(t, p)
		p.Arm(0, fault)
		conn.Write(getRandom)
		got, err := frame.Read(conn)
		conn.Close()
		code, _ := (Exchange{Response: got}).Code()
		switch {
		case fault.Cut && err != nil, fault.Name == "restarted without TPM_Startup" && code == 0x100, err == nil && code == 0:
		default:
			t.Errorf("%s: %x, %v", fault.Name, got, err)
		}
		if err := p.WaitIdle(20 * time.Second); err != nil {
			t.Error(err)
		}
		p.Send(startup20)
		objects, _ := Handles20(p, transients)
		sessions, _ := Handles20(p, loadedSessions)
		if slices.Contains(objects, object) != (fault.Name == "sessions flushed") || slices.Contains(sessions, session) != (fault.Name == "keys flushed") {
			t.Errorf("%s: %x %x", fault.Name, objects, sessions)
		}
		p.Revive()
	}
}

func TestParts20(t *testing.T) {
	t.Parallel()
	p := StartProxy(t, Start(t, TPM20))
	use, object, session := loaded(t, p)
	p.Revive()
	handles, sessions := Parts20(use)
	if !slices.Equal(handles, []uint32{object}) || !slices.Equal(sessions, []uint32{session}) {
		t.Errorf("%x %x", handles, sessions)
	}
	if got := (Exchange{Command: use}).Sessions(); !slices.Equal(got, sessions) {
		t.Errorf("%x", got)
	}
	if got := (Exchange{Command: PCRReset(16)}).Sessions(); len(got) != 0 {
		t.Errorf("a password is no session: %x", got)
	}
	for range 100_000 { // never panics
		garbled := bytes.Clone(use[:rand.IntN(len(use)+1)])
		for range min(3, len(garbled)) {
			garbled[rand.IntN(len(garbled))] = byte(rand.Uint32())
		}
		Parts20(garbled)
	}
}
