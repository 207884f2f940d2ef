package ecryptfs

import (
	"bytes"
	"errors"
	"sync"
	"testing"
	"time"
)

// fileKey is a file key of AES-128.
func fileKey(fill byte) []byte {
	key := append([]byte{7}, bytes.Repeat([]byte{fill}, 16)...)
	return append(key, byte(int(fill)*16>>8), byte(int(fill)*16))
}

// bench is a server over a TPM that a test holds in its hand.
type bench struct {
	*Server
	mu       sync.Mutex
	unwraps  int
	complain []error
	hold     chan struct{} // unwrapping waits for it, where it is not nil
}

func newBench() *bench {
	b := new(bench)
	b.Server = NewServer(testSignature, func(key []byte) ([]byte, error) { return bytes.Repeat(key[1:2], 256), nil }, b.open,
		func(err error) {
			b.mu.Lock()
			defer b.mu.Unlock()
			b.complain = append(b.complain, err)
		})
	return b
}

func (b *bench) open(wrapped []byte) ([]byte, error) {
	b.mu.Lock()
	b.unwraps++
	hold := b.hold
	b.mu.Unlock()
	if hold != nil {
		<-hold
	}
	if wrapped[0] == 0 {
		return nil, errors.New("refused")
	}
	return fileKey(wrapped[0]), nil
}

// ask has the server answer a request, and returns status and body.
func (b *bench) ask(t *testing.T, tag byte, body []byte, delivered bool) (status byte, answer []byte) {
	t.Helper()
	p := &packet{kind: packetRequest, counter: 5, index: 6, data: testRequest(tag, body)}
	got := false
	b.receive(p.bytes(), func(raw []byte) bool {
		got = true
		raw[0] = packetRequest // or it would not be parsed
		a, err := parsePacket(raw)
		if err != nil || a.counter != 5 || a.index != 6 || a.data[0] != tag+1 {
			t.Errorf("answer %x: %v", raw, err)
			return false
		}
		status = a.data[1]
		block, _, err := cutBlock(a.data[2:])
		if status == 0 && err != nil {
			t.Errorf("answer %x: %v", raw, err)
		}
		answer = bytes.Clone(block)
		return delivered
	})
	if !got {
		t.Error("no answer")
	}
	return status, answer
}

func TestServer(t *testing.T) {
	b := newBench()
	if status, got := b.ask(t, tag66, fileKey(9), true); status != 0 || !bytes.Equal(got, bytes.Repeat([]byte{9}, 256)) {
		t.Errorf("wrapping: %d, %x", status, got)
	}
	if status, got := b.ask(t, tag64, bytes.Repeat([]byte{9}, 256), true); status != 0 || !bytes.Equal(got, fileKey(9)) {
		t.Errorf("unwrapping: %d, %x", status, got)
	}
	if status, _ := b.ask(t, tag64, make([]byte, 256), true); status == 0 || len(b.complain) != 1 {
		t.Errorf("unwrapping nonsense: %d, %v", status, b.complain)
	}
	b.signature = "fedcba9876543210"
	if status, _ := b.ask(t, tag66, fileKey(9), true); status == 0 || len(b.complain) != 2 {
		t.Errorf("another token: %d, %v", status, b.complain)
	}
	if wrapped, unwrapped := b.Counts(); wrapped != 1 || unwrapped != 1 {
		t.Errorf("%d wrapped, %d unwrapped", wrapped, unwrapped)
	}
	b.receive([]byte("nonsense"), func([]byte) bool { t.Error("nonsense is answered"); return true })
	b.receive(unhex(t, "66 00000001"), func([]byte) bool { t.Error("an abandoned request is answered"); return true })
	if len(b.complain) != 3 {
		t.Errorf("complaints: %v", b.complain)
	}
}

// A key that came too late is there at once for the next request, and only that.
func TestServerLate(t *testing.T) {
	b := newBench()
	wrapped := bytes.Repeat([]byte{9}, 256)
	for _, delivered := range []bool{false, false, true} {
		if status, got := b.ask(t, tag64, wrapped, delivered); status != 0 || !bytes.Equal(got, fileKey(9)) {
			t.Errorf("%d, %x", status, got)
		}
	}
	if b.unwraps != 1 {
		t.Errorf("the TPM unwrapped %d times", b.unwraps)
	}
	b.ask(t, tag64, wrapped, true)
	if b.unwraps != 2 {
		t.Errorf("after it was delivered the TPM unwrapped %d times in all", b.unwraps)
	}
}

func TestServerLateLimit(t *testing.T) {
	b := newBench()
	for i := range 2 * maxLate {
		b.ask(t, tag64, bytes.Repeat([]byte{byte(i + 1)}, 256), false)
	}
	if len(b.cache.late) != maxLate || len(b.cache.order) != maxLate {
		t.Errorf("%d keys are kept, and %d in order", len(b.cache.late), len(b.cache.order))
	}
	b.cache.clear()
	if len(b.cache.late) != 0 || len(b.cache.order) != 0 {
		t.Errorf("%d keys are left", len(b.cache.late))
	}
}

// Equal requests at the same time cost one unwrapping.
func TestServerMerges(t *testing.T) {
	b := newBench()
	b.hold = make(chan struct{})
	wrapped := bytes.Repeat([]byte{9}, 256)
	const many = 8
	var all sync.WaitGroup
	for range many {
		all.Add(1)
		go func() {
			defer all.Done()
			if status, got := b.ask(t, tag64, wrapped, true); status != 0 || !bytes.Equal(got, fileKey(9)) {
				t.Errorf("%d, %x", status, got)
			}
		}()
	}
	for waiting := 0; waiting < many; time.Sleep(time.Millisecond) {
		b.cache.mu.Lock()
		waiting = 0
		for _, f := range b.cache.running {
			waiting += f.users
		}
		b.cache.mu.Unlock()
	}
	close(b.hold)
	all.Wait()
	if b.unwraps != 1 || len(b.cache.running) != 0 {
		t.Errorf("the TPM unwrapped %d times, %d are running", b.unwraps, len(b.cache.running))
	}
}
