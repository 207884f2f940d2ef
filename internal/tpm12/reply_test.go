package tpm12_test

import (
	"encoding/binary"
	"errors"
	"slices"
	"testing"
	"time"

	"maclef/internal/tpm12"
	"maclef/internal/tpmtest"
	"maclef/internal/transport"
)

// A canned is a TPM that gives one answer to everything.
type canned []byte

func (c canned) Send([]byte) ([]byte, error) { return c, nil }

// answering is a Conn to such a TPM, which it asks only once.
func answering(reply []byte) *tpm12.Conn {
	conn := tpm12.New(canned(reply))
	conn.Patience = 0
	return conn
}

// calls are all commands that this package sends.
var calls = map[string]func(*tpm12.Conn) error{
	"LoadKey2":        func(c *tpm12.Conn) error { _, err := c.LoadKey2(tpm12.SRK, nil, wellKnown); return err },
	"LoadKey2 noauth": func(c *tpm12.Conn) error { _, err := c.LoadKey2(tpm12.SRK, nil, nil); return err },
	"Sign":            func(c *tpm12.Conn) error { _, err := c.Sign(1, []byte("x"), nil); return err },
	"UnBind":          func(c *tpm12.Conn) error { _, err := c.UnBind(1, []byte("x"), wellKnown); return err },
	"UnBindLast":      func(c *tpm12.Conn) error { _, err := c.UnBindLast(1, []byte("x"), wellKnown); return err },
	"CreateWrapKey": func(c *tpm12.Conn) error {
		_, err := c.CreateWrapKey(1, wellKnown, nil, wellKnown, wellKnown)
		return err
	},
	"Seal":             func(c *tpm12.Conn) error { _, err := c.Seal(1, wellKnown, wellKnown, nil, nil); return err },
	"Unseal":           func(c *tpm12.Conn) error { _, err := c.Unseal(1, nil, nil, wellKnown); return err },
	"Unseal, two":      func(c *tpm12.Conn) error { _, err := c.Unseal(1, nil, wellKnown, wellKnown); return err },
	"PCRRead":          func(c *tpm12.Conn) error { _, err := c.PCRRead(8); return err },
	"SaveContext":      func(c *tpm12.Conn) error { _, err := c.SaveContext(1); return err },
	"LoadContext":      func(c *tpm12.Conn) error { _, err := c.LoadContext(make([]byte, 60)); return err },
	"OpenKeySession":   func(c *tpm12.Conn) error { _, err := c.OpenKeySession(1, wellKnown); return err },
	"Startup":          func(c *tpm12.Conn) error { return c.Startup() },
	"ContinueSelfTest": func(c *tpm12.Conn) error { return c.ContinueSelfTest() },
	"GetPubKey":        func(c *tpm12.Conn) error { _, err := c.GetPubKey(1, wellKnown); return err },
	"FlushSpecific":    func(c *tpm12.Conn) error { return c.FlushSpecific(1) },
	"GetRandom":        func(c *tpm12.Conn) error { _, err := c.GetRandom(8); return err },
	"ReadPubek":        func(c *tpm12.Conn) error { _, err := c.ReadPubek(); return err },
	"CreateEndorsementKeyPair": func(c *tpm12.Conn) error {
		_, err := c.CreateEndorsementKeyPair()
		return err
	},
	"TakeOwnership":        func(c *tpm12.Conn) error { return c.TakeOwnership(wellKnown, nil, nil, nil) },
	"OwnerReadInternalPub": func(c *tpm12.Conn) error { _, err := c.OwnerReadInternalPub(1, wellKnown); return err },
	"Version":              func(c *tpm12.Conn) error { _, err := c.Version(); return err },
	"Flags":                func(c *tpm12.Conn) error { _, err := c.Flags(); return err },
	"Owned":                func(c *tpm12.Conn) error { _, err := c.Owned(); return err },
	"KeySlots":             func(c *tpm12.Conn) error { _, _, err := c.KeySlots(); return err },
	"Sessions":             func(c *tpm12.Conn) error { _, err := c.Sessions(); return err },
	"SavedSessions":        func(c *tpm12.Conn) error { _, err := c.SavedSessions(); return err },
	"FlushSaved":           func(c *tpm12.Conn) error { return c.FlushSaved(1) },
	"LoadedKeys":           func(c *tpm12.Conn) error { _, err := c.LoadedKeys(); return err },
	"PhysicalPresence":     func(c *tpm12.Conn) error { return c.PhysicalPresence(tpm12.PresencePresent) },
	"PhysicalEnable":       func(c *tpm12.Conn) error { return c.PhysicalEnable() },
	"PhysicalDisable":      func(c *tpm12.Conn) error { return c.PhysicalDisable() },
	"SetDeactivated":       func(c *tpm12.Conn) error { return c.PhysicalSetDeactivated(true) },
	"SetOwnerInstall":      func(c *tpm12.Conn) error { return c.SetOwnerInstall(true) },
	"ForceClear":           func(c *tpm12.Conn) error { return c.ForceClear() },
	"OwnerClear":           func(c *tpm12.Conn) error { return c.OwnerClear(wellKnown) },
	"OwnerSetDisable":      func(c *tpm12.Conn) error { return c.OwnerSetDisable(true, wellKnown) },
	"ResetLockValue":       func(c *tpm12.Conn) error { return c.ResetLockValue(wellKnown) },
	"DictionaryAttack":     func(c *tpm12.Conn) error { _, err := c.DictionaryAttack(); return err },
}

func reply(tag uint16, size int, code uint32, body ...byte) []byte {
	b := binary.BigEndian.AppendUint16(nil, tag)
	b = binary.BigEndian.AppendUint32(b, uint32(size))
	b = binary.BigEndian.AppendUint32(b, code)
	return append(b, body...)
}

func TestMalformedReplies(t *testing.T) {
	t.Parallel()
	for name, r := range map[string][]byte{
		"nothing":              nil,
		"half a header":        {0, 0xc4, 0, 0},
		"too large":            make([]byte, 5000),
		"wrong size":           reply(0xc4, 11, 0),
		"wrong tag":            reply(0xc9, 10, 0),
		"command as reply":     reply(0xc1, 10, 0),
		"long error":           reply(0xc4, 11, 1, 0),
		"error with a tag":     reply(0xc5, 10, 1),
		"success of two auths": reply(0xc6, 10, 0),
		"sized too large":      reply(0xc4, 15, 0, 0xff, 0xff, 0xff, 0xff, 0),
		"one byte":             reply(0xc4, 11, 0, 7),
	} {
		for call, f := range calls {
			err := f(answering(r))
			var refused *tpm12.Error
			if err == nil || errors.As(err, &refused) {
				t.Errorf("%s: %s: %v", name, call, err)
			}
		}
	}
}

func TestErrorReplies(t *testing.T) {
	t.Parallel()
	for call, f := range calls {
		err := f(answering(reply(0xc4, 10, 0x803)))
		if !errors.Is(err, tpm12.DefendLockRunning) {
			t.Errorf("%s: %v", call, err)
		}
		for _, r := range [][]byte{reply(0xc4, 10, 0x1e), reply(0x8001, 10, 0x1e)} {
			if err := f(answering(r)); !errors.Is(err, tpm12.ErrTPM20) {
				t.Errorf("%s: %v", call, err)
			}
		}
	}
}

// TPM Main Part 2, sections 21.7 (TPM_DA_INFO) and 21.8 (TPM_DA_INFO_LIMITED).
func TestDictionaryAttackReplies(t *testing.T) {
	t.Parallel()
	full := []byte{0, 0x37, 1, 0, 3, 0, 5, 0, 0x39, 0, 0, 0, 1, 0, 0, 0, 60, 0, 0, 0, 2, 7, 7}
	limited := []byte{0, 0x38, 1, 0, 0x39, 0, 0, 0, 1, 0, 0, 0, 0}
	read := func(info []byte) (*tpm12.DAInfo, error) {
		size := len(info)
		return tpm12.New(canned(reply(0xc4, 14+size, 0, append([]byte{0, 0, 0, byte(size)}, info...)...))).DictionaryAttack()
	}
	if d, err := read(full); err != nil || *d != (tpm12.DAInfo{Locked: true, Known: true, Count: 3, Threshold: 5, Seconds: 60}) {
		t.Errorf("%+v, %v", d, err)
	}
	if d, err := read(limited); err != nil || *d != (tpm12.DAInfo{Locked: true}) {
		t.Errorf("%+v, %v", d, err)
	}
	for _, whole := range [][]byte{full, limited} {
		for n := range whole {
			if d, err := read(whole[:n]); err == nil {
				t.Errorf("%d of %d bytes: %+v", n, len(whole), d)
			}
		}
		if d, err := read(append(whole[:len(whole):len(whole)], 0)); err == nil {
			t.Errorf("trailing byte: %+v", d)
		}
	}
	if d, err := read(append([]byte{0, 0x39}, full[2:]...)); err == nil {
		t.Errorf("another tag: %+v", d)
	}
}

func TestResultCodeNames(t *testing.T) {
	t.Parallel()
	for code, want := range map[tpm12.ResultCode]string{
		1: "TPM_AUTHFAIL (0x1)", 0x803: "TPM_DEFEND_LOCK_RUNNING (0x803)",
		0x463: "vendor-specific TPM error 0x463", 0x263: "unknown TPM error 0x263",
	} {
		if got := code.Error(); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

// Every bit of an authorized reply is covered: parameters and authorization by
// the HMAC, the rest by the checks of the header.
func TestEveryFlippedBitIsNoticed(t *testing.T) {
	t.Parallel()
	dev, err := transport.Open(tpmtest.Start(t, tpmtest.Tutorial).Socket, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	tap := tpmtest.NewTap(dev)
	defer tap.Close()
	conn := tpm12.New(tap)
	bit, bits := -1, 0
	tap.After = func(_ int, cmd, rsp []byte, err error) ([]byte, error) {
		if bit >= 0 && binary.BigEndian.Uint16(rsp) == 0xc5 {
			bits = 8 * len(rsp)
			rsp[bit/8] ^= 1 << (bit % 8)
		}
		return rsp, err
	}
	for bit = 0; bit == 0 || bit < bits; bit += 7 {
		if pub, err := conn.GetPubKey(tpm12.SRK, tutorialSRK()); err == nil {
			t.Fatalf("bit %d of %d flipped, and accepted: %x", bit, bits, pub)
		}
	}
	if bits < 8*300 {
		t.Errorf("only %d bits flipped", bits)
	}
	bit = -1
	if _, err := conn.GetPubKey(tpm12.SRK, tutorialSRK()); err != nil {
		t.Error(err)
	}
}

// An inTurn answers each command with what comes next in data, by the size in the
// replies' headers.
type inTurn struct{ data []byte }

func (r *inTurn) Send([]byte) ([]byte, error) {
	size := len(r.data)
	if size >= 6 {
		size = int(min(uint32(size), binary.BigEndian.Uint32(r.data[2:])))
	}
	next := r.data[:size:size]
	r.data = r.data[size:]
	return next, nil
}

func FuzzReply(f *testing.F) {
	f.Add(reply(0xc4, 10, 0))
	f.Add(reply(0xc5, 55, 0, make([]byte, 45)...))
	f.Add(reply(0xc4, 18, 0, 0, 0, 0, 4, 0, 1, 2, 3))
	f.Add(reply(0xc4, 10, 1))
	f.Add(reply(0xc4, 10, 0x801))
	f.Add(reply(0xc4, 14, 0, 0, 0, 0, 9))                 // TPM_LoadContext
	f.Add(reply(0xc4, 34, 0, make([]byte, 24)...))        // TPM_OIAP
	f.Add(reply(0xc4, 54, 0, make([]byte, 44)...))        // TPM_OSAP
	f.Add(reply(0xc5, 51, 0, make([]byte, 41)...))        // an authorization alone
	f.Add(reply(0xc4, 18, 0, 0, 0, 0, 4, 0, 1, 0, 0))     // TPM_SaveContext
	f.Add(append(reply(0xc4, 34, 0, make([]byte, 24)...), // two replies in turn
		reply(0xc5, 51, 0, make([]byte, 41)...)...))
	f.Add(slices.Concat(reply(0xc4, 54, 0, make([]byte, 44)...), // TPM_OSAP, TPM_SaveContext, TPM_LoadContext
		reply(0xc4, 46, 0, append([]byte{0, 0, 0, 32}, make([]byte, 32)...)...), reply(0xc4, 14, 0, 0, 0, 0, 9)))
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, call := range calls {
			call(answering(data))
		}
		conn := tpm12.New(&inTurn{data: data})
		conn.Patience = 0
		conn.Keep(true)
		for _, call := range []string{"UnBind", "GetPubKey", "LoadContext", "OpenKeySession", "UnBind", "CreateWrapKey"} {
			calls[call](conn)
		}
		conn.EndSessions()
		conn.Forget()
		fuzzSaving(t, tpm12.New(&inTurn{data: data}))
	})
}

// fuzzSaving saves and restores a session, whatever is answered.
func fuzzSaving(t *testing.T, conn *tpm12.Conn) {
	conn.Patience = 0
	session, err := conn.OpenKeySession(1, wellKnown)
	if err != nil {
		return
	}
	sign := func() error { _, err := conn.Sign(2, []byte("x"), session); return err }
	for i, do := range []func() error{session.Save, sign, func() error { return session.Restore(2) }, sign, session.Save} {
		err := do()
		if session.Alive() && session.Saved() || !session.Saved() && session.Context() != 0 {
			t.Errorf("%d: %v; alive %v, saved %v", i, err, session.Alive(), session.Saved())
		}
	}
	session.Close()
	if session.Alive() || session.Saved() {
		t.Error("closed, and not")
	}
}
