package tpmtest

import (
	"bytes"
	"io"
	"net"
	"testing"
	"time"

	"maclef/internal/transport/frame"
)

var versionAnswer = []byte{0, 0xC4, 0, 0, 0, 18, 0, 0, 0, 0, 0, 0, 0, 4, 1, 1, 0, 0}

func dialProxy(t *testing.T, p *Proxy) net.Conn {
	t.Helper()
	conn, err := net.Dial("unix", p.path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(20 * time.Second))
	return conn
}

// answer sends a command and reads all that comes, up to n bytes.
func answer(t *testing.T, conn net.Conn, n int) []byte {
	t.Helper()
	if _, err := conn.Write(frame.Probe()); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, n)
	n, _ = io.ReadFull(conn, got)
	return got[:n]
}

// Bytes may come one by one, and connections wait for each other.
func TestProxyIsTransparent(t *testing.T) {
	p := StartProxy(t, Start(t, Fresh))
	first, second := dialProxy(t, p), dialProxy(t, p)
	second.Write(frame.Probe())
	for _, b := range frame.Probe() {
		first.Write([]byte{b})
	}
	got := make([]byte, 18)
	if _, err := io.ReadFull(first, got); err != nil || !bytes.Equal(got, versionAnswer) {
		t.Fatalf("%x, %v", got, err)
	}
	if n := p.Count(); n != 1 {
		t.Errorf("%d commands, and the second connection has to wait", n)
	}
	if err := p.WaitIdle(100 * time.Millisecond); err == nil {
		t.Error("idle while somebody is connected")
	}
	first.Close()
	if _, err := io.ReadFull(second, got); err != nil || !bytes.Equal(got, versionAnswer) {
		t.Fatalf("%x, %v", got, err)
	}
	second.Close()
	if err := p.WaitIdle(20 * time.Second); err != nil {
		t.Error(err)
	}
}

func TestFaultsHappenOnce(t *testing.T) {
	p := StartProxy(t, Start(t, Fresh))
	good, long := versionAnswer, append(bytes.Clone(versionAnswer), 0)
	for _, row := range []struct {
		fault Fault
		want  []byte
		ends  bool
	}{
		{Fault{}, good, false},
		{Fault{Early: true}, nil, true},
		{Fault{Lost: true, Cut: true}, nil, true},
		{Fault{Answer: func(_, _ []byte) []byte { return nil }, Cut: true}, nil, true},
		{Fault{Answer: func(_, rsp []byte) []byte { return append(rsp, 0) }}, long, false},
		{Refused(0x803), ErrorReply(0x803), false},
		{Flipped(17*8+1, time.Minute), append(bytes.Clone(good[:17]), 2), false},
	} {
		conn := dialProxy(t, p)
		p.Arm(1, row.fault)
		if got := answer(t, conn, 18); !bytes.Equal(got, good) {
			t.Fatalf("before the fault: %x", got)
		}
		n := max(len(row.want), 1)
		if got := answer(t, conn, n); !bytes.Equal(got, row.want) {
			t.Errorf("%s: %x, want %x", row.fault.Name, got, row.want)
		}
		if row.ends {
			conn.Close()
			conn = dialProxy(t, p)
		}
		if got := answer(t, conn, 18); !bytes.Equal(got, good) {
			t.Errorf("%s: afterwards %x", row.fault.Name, got)
		}
		if n := p.Count(); n != 3 || !p.Disarm() {
			t.Errorf("%s: %d commands", row.fault.Name, n)
		}
		conn.Close()
	}
}

func TestFaultsRepeat(t *testing.T) {
	p := StartProxy(t, Start(t, Fresh))
	conn := dialProxy(t, p)
	p.Arm(0, RefusedOften(0x800, 1))
	for _, want := range [][]byte{ErrorReply(0x800), ErrorReply(0x800), versionAnswer} {
		if got := answer(t, conn, len(want)); !bytes.Equal(got, want) {
			t.Errorf("%x, want %x", got, want)
		}
	}
	p.Arm(0, RefusedOften(0x801, 100, 0x65)) // cured by the command itself
	if got := answer(t, conn, 18); !bytes.Equal(got, versionAnswer) || !p.Disarm() {
		t.Errorf("%x", got)
	}
}

// A TPM after CMD_INIT refuses everything but TPM_Startup.
func TestLostStates(t *testing.T) {
	Long(t, Slow20)
	p := StartProxy(t, Start(t, Fresh))
	for _, fault := range LostStates() {
		conn := dialProxy(t, p)
		p.Arm(0, fault)
		got := answer(t, conn, 10)
		conn.Close()
		want := ErrorReply(0)
		switch fault.Name {
		case "restarted without TPM_Startup":
			want = ErrorReply(0x26)
		case "restarted, connection cut":
			want = nil
		}
		if len(got) >= 10 {
			got = append(ErrorReply(0)[:6], got[6:10]...)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("%s: %x", fault.Name, got)
		}
		if err := p.WaitIdle(20 * time.Second); err != nil {
			t.Error(err)
		}
		p.Revive()
	}
}
