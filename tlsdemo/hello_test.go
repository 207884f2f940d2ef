package main

import (
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"testing"
)

// helloOf is what a client of Go says first.
func helloOf(t testing.TB) []byte {
	t.Helper()
	ours, theirs := net.Pipe()
	defer ours.Close()
	go tls.Client(theirs, &tls.Config{ServerName: "localhost"}).Handshake()
	head := make([]byte, recordHeader)
	if _, err := io.ReadFull(ours, head); err != nil {
		t.Fatal(err)
	}
	body := make([]byte, binary.BigEndian.Uint16(head[3:]))
	if _, err := io.ReadFull(ours, body); err != nil {
		t.Fatal(err)
	}
	return append(head, body...)
}

// inRecords cuts the message of a record into records of at most size bytes.
func inRecords(record []byte, size int) []byte {
	var out []byte
	for rest := record[recordHeader:]; len(rest) > 0; {
		n := min(size, len(rest))
		out = append(out, record[0], record[1], record[2], byte(n>>8), byte(n))
		out = append(out, rest[:n]...)
		rest = rest[n:]
	}
	return out
}

// A hello is complete with its last byte, however it comes.
func TestHelloIsComplete(t *testing.T) {
	whole := helloOf(t)
	for _, size := range []int{1, 2, 3, 4, 5, 100, 16384} {
		h, wire := new(hello), inRecords(whole, size)
		for i, b := range wire {
			if h.complete() {
				t.Fatalf("records of %d bytes: complete after %d of %d", size, i, len(wire))
			}
			h.bytes = append(h.bytes, b)
		}
		if !h.complete() {
			t.Errorf("records of %d bytes: not complete", size)
		}
	}
	h := &hello{bytes: append(bytes.Clone(whole), 21, 3, 1, 0, 2)}
	if !h.complete() {
		t.Error("not complete with more behind it")
	}
}

func TestWhatIsNoHello(t *testing.T) {
	for name, row := range map[string]struct {
		sent string
		done bool // nothing more is needed to see it
	}{
		"nothing":        {"", false},
		"four bytes":     {"GET ", false},
		"HTTP":           {"GET / HTTP/1.1\r\n", true},
		"empty record":   {"\x16\x03\x01\x00\x00", true},
		"long record":    {"\x16\x03\x01\xff\xff", true},
		"alert":          {"\x15\x03\x01\x00\x02\x01\x00", true},
		"finished":       {"\x16\x03\x01\x00\x04\x14\x00\x00\x0c", true},
		"half a header":  {"\x16\x03\x01\x00\x02\x01\x00", false},
		"longest length": {"\x16\x03\x01\x00\x04\x01\xff\xff\xff", false},
	} {
		h := &hello{bytes: []byte(row.sent)}
		if h.complete() != row.done {
			t.Errorf("%s: %t", name, h.complete())
		}
	}
}

// A client may talk on and on: it is not listened to for ever, and what it said
// is not kept in more than twice the memory.
func TestEndlessHello(t *testing.T) {
	ours, theirs := net.Pipe()
	defer ours.Close()
	go func() {
		endless := append([]byte{22, 3, 1, 0x40, 0, 1, 255, 255, 255}, make([]byte, 1<<20)...)
		theirs.Write(inRecords(endless, 1000))
	}()
	c := &conn{Conn: ours}
	if err := c.readHello(); !errors.Is(err, errLongHello) {
		t.Error(err)
	}
	if n := cap(c.hello.bytes); n > 3*helloLimit {
		t.Errorf("%d bytes", n)
	}
}

// What was read is read again, by crypto/tls.
func TestHelloIsReadAgain(t *testing.T) {
	ours, theirs := net.Pipe()
	whole := helloOf(t)
	go func() {
		theirs.Write(append(bytes.Clone(whole), "and more"...))
		theirs.Close()
	}()
	c := &conn{Conn: ours}
	if err := c.readHello(); err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(c)
	if want := string(whole) + "and more"; err != nil || string(got) != want {
		t.Errorf("%q %v", got, err)
	}
}

// Foreign bytes cause no panic, and it does not matter in which pieces they come.
func FuzzHello(f *testing.F) {
	whole := helloOf(f)
	f.Add(whole, uint8(1))
	f.Add(inRecords(whole, 3), uint8(7))
	f.Add([]byte{22, 3, 1, 0, 0, 22, 3, 1, 0, 1, 1}, uint8(2))
	f.Fuzz(func(t *testing.T, wire []byte, piece uint8) {
		if len(wire) > 2*helloLimit {
			return
		}
		once := &hello{bytes: wire}
		inPieces := new(hello)
		done := false
		for rest := wire; len(rest) > 0 && !done; {
			n := min(int(piece)+1, len(rest))
			inPieces.bytes = append(inPieces.bytes, rest[:n]...)
			rest = rest[n:]
			done = inPieces.complete()
		}
		if done != once.complete() {
			t.Errorf("in pieces %t, at once %t", done, !done)
		}
	})
}
