package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"os"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"maclef/internal/tpmtest"
	"maclef/tpmkey"
)

// An onslaught is more clients than the TPM can sign for: they come evenly,
// whether or not those before them were served, and hang up when it takes too
// long.
type onslaught struct {
	signature time.Duration // what the TPM takes for one
	times     float64       // as many as the TPM could serve
	lasts     time.Duration
	patience  time.Duration // of a client
}

// An outcome is what became of an onslaught.
type outcome struct {
	onslaught
	clients    int
	completed  int             // handshakes, as the clients see it
	waits      []time.Duration // for those, sorted
	signatures int
	tally      tally
	early, end load // after a quarter of the time, and when the last client has come
}

// load is what the process needs, clients included.
type load struct {
	goroutines int
	heap       uint64
}

func loadNow() load {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return load{runtime.NumGoroutine(), m.HeapAlloc}
}

// yield is how many of the signatures made led to a handshake.
func (o *outcome) yield() float64 { return float64(o.completed) / float64(max(o.signatures, 1)) }

// allowed is how many handshakes the TPM could have signed for.
func (o *outcome) allowed() float64 { return o.lasts.Seconds() / o.signature.Seconds() }

func (o *outcome) String() string {
	wait := "none"
	if n := len(o.waits); n > 0 {
		wait = fmt.Sprintf("%v, longest %v", o.waits[n/2].Round(time.Millisecond), o.waits[n-1].Round(time.Millisecond))
	}
	return fmt.Sprintf("%v a signature, %g times the load for %v, clients wait %v: %d clients, %d signatures, %d handshakes "+
		"= %.2f of the signatures, %.2f of what the TPM allows; median wait %s; gave up %d, failed %d; "+
		"goroutines %d, then %d; heap %d KB, then %d KB",
		o.signature, o.times, o.lasts, o.patience, o.clients, o.signatures, o.completed,
		o.yield(), float64(o.completed)/o.allowed(), wait, o.tally.gaveUp, o.tally.failed,
		o.early.goroutines, o.end.goroutines, o.early.heap>>10, o.end.heap>>10)
}

// endure lets an onslaught loose on a server of its own. With blind, the key
// signs for those who have gone, too, in the order in which they came.
func (w onslaught) endure(t *testing.T, g generation, blind bool) *outcome {
	r := g.rig(t, "maclef", nil)
	slow := newSlowTPM(t, r.swtpm)
	r.swtpm.Socket = slow.name
	if blind {
		cert := r.blindCertificate()
		r.adjust = func(id *identity) {
			id.config.GetCertificate = func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return cert, nil }
		}
	}
	server := r.serve(nil)
	server.dial(server.addr).Close() // the key is loaded
	o := &outcome{onslaught: w}
	before := slow.signs.Load()
	slow.delay.Store(int64(w.signature))
	o.send(server)
	o.signatures = int(slow.signs.Load() - before)
	o.tally, _, _ = server.server.stats.snapshot()
	slow.delay.Store(0) // for whatever still waits
	return o
}

// blindCertificate signs for whoever asks, gone or not.
func (r *rig) blindCertificate() *tls.Certificate {
	r.t.Helper()
	tpm := r.open()
	r.t.Cleanup(func() { tpm.Close() })
	key, err := tpm.LoadFile(context.Background(), r.key, &tpmkey.LoadOptions{ParentAuth: tpmkey.Password(nil)})
	if err != nil {
		r.t.Fatal(err)
	}
	chain, err := os.ReadFile(r.cert)
	if err != nil {
		r.t.Fatal(err)
	}
	cert, err := key.TLSCertificate(chain)
	if err != nil {
		r.t.Fatal(err)
	}
	return &cert
}

// send lets the clients come, and waits for the last.
func (o *outcome) send(server *running) {
	var mu sync.Mutex
	var clients sync.WaitGroup
	begin := time.Now()
	for next := begin; next.Sub(begin) < o.lasts; next = next.Add(time.Duration(float64(o.signature) / o.times)) {
		time.Sleep(time.Until(next))
		if o.clients++; o.early.goroutines == 0 && time.Since(begin) > o.lasts/4 {
			o.early = loadNow()
		}
		clients.Add(1)
		go func() {
			defer clients.Done()
			took, ok := server.tryHandshake(o.patience)
			if !ok {
				return
			}
			mu.Lock()
			defer mu.Unlock()
			o.completed++
			o.waits = append(o.waits, took)
		}()
	}
	o.end = loadNow()
	clients.Wait()
	slices.Sort(o.waits)
}

// tryHandshake makes a full handshake, unless that takes too long.
func (r *running) tryHandshake(patience time.Duration) (took time.Duration, ok bool) {
	begin := time.Now()
	dialer := &net.Dialer{Deadline: begin.Add(patience)}
	c, err := tls.DialWithDialer(dialer, "tcp", r.addr, &tls.Config{RootCAs: r.roots, ServerName: "localhost"})
	if err != nil {
		return 0, false
	}
	c.Close()
	return time.Since(begin), true
}

// TestOverload takes 14 seconds. With TLSDEMO_OVERLOAD=60s the onslaught lasts
// that long, the test is strict, and shows what would become of a queue that
// serves the dead, too.
func TestOverload(t *testing.T) {
	tpmtest.Long(t, "it measures for 15 seconds")
	w := onslaught{signature: 300 * time.Millisecond, times: 4, lasts: 8 * time.Second, patience: 2 * time.Second}
	least, long := 0.7, os.Getenv("TLSDEMO_OVERLOAD")
	if long != "" {
		var err error
		if w.lasts, err = time.ParseDuration(long); err != nil {
			t.Fatal(err)
		}
		least = 0.9
	}
	t.Run("newest first", func(t *testing.T) {
		o := w.endure(t, gen12, false)
		t.Log(o)
		if o.yield() < least || float64(o.completed) < least*o.allowed() {
			t.Errorf("less than %g", least)
		}
		if o.end.goroutines > 2*o.early.goroutines+20 || o.end.heap > 2*o.early.heap+4<<20 {
			t.Error("not flat")
		}
	})
	t.Run("2.0", func(t *testing.T) {
		w := onslaught{signature: 200 * time.Millisecond, times: 4, lasts: 4 * time.Second, patience: 1500 * time.Millisecond}
		o := w.endure(t, gen20, false)
		t.Log(o)
		if o.yield() < 0.7 || float64(o.completed) < 0.6*o.allowed() {
			t.Error("too few")
		}
	})
	if long != "" {
		t.Run("first come first served", func(t *testing.T) { t.Log(w.endure(t, gen12, true)) })
	}
}
