package tpmkey_test

import (
	"context"
	"crypto"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"maclef/internal/tpmtest"
	"maclef/tpmkey"
)

// A gate stops commands on their way to the TPM.
type gate struct {
	ordinal uint32        // which
	reached chan struct{} // one that has got there
	open    chan struct{}
	let     func() // opens it
}

// gated is a key that has been used, and a gate for the commands of its TPM.
func gated(t *testing.T, gen generation, name string, ordinal uint32) (*tpmkey.Key, *gate, func(...uint32) int) {
	t.Helper()
	tpm, tap := openTappedIn(t, gen.state)
	k := loadFixture(t, tpm, name)
	if ordinal != gen.getCap {
		if err := signs(k); err != nil {
			t.Fatal(err)
		}
	}
	tap.Reset()
	open := make(chan struct{})
	g := &gate{ordinal, make(chan struct{}, 100), open, sync.OnceFunc(func() { close(open) })}
	t.Cleanup(g.let)
	tap.Before = func(_ int, cmd []byte) ([]byte, error) {
		if commandOf(cmd) == g.ordinal {
			g.reached <- struct{}{}
			<-g.open
		}
		return cmd, nil
	}
	return k, g, tap.Count
}

// inBackground runs f, whose error comes later.
func inBackground(f func() error) <-chan error {
	err := make(chan error, 1)
	go func() { err <- f() }()
	return err
}

func TestDeadlineWhileWaiting(t *testing.T) { inBoth(t, testDeadlineWhileWaiting) }

func testDeadlineWhileWaiting(t *testing.T, gen generation) {
	k, g, count := gated(t, gen, gen.counted, gen.sign)
	first := inBackground(func() error { return signs(k, "first") })
	<-g.reached
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	late := k.WithContext(ctx)
	tpmtest.WantError(t, signs(late), context.DeadlineExceeded, "gave up waiting")
	_, err := late.Decrypt(nil, make([]byte, 256), nil)
	tpmtest.WantError(t, err, context.DeadlineExceeded)
	g.let()
	if err := <-first; err != nil {
		t.Error(err)
	}
	if err := signs(k, "afterwards"); err != nil {
		t.Error(err)
	}
	if n := count(); n != 2 {
		t.Errorf("%d commands, not 2", n)
	}
}

func TestCancelledBefore(t *testing.T) {
	t.Parallel()
	inBoth(t, testCancelledBefore)
}

func testCancelledBefore(t *testing.T, gen generation) {
	k, g, count := gated(t, gen, gen.secret, gen.sign)
	g.let()
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	tpmtest.WantError(t, signs(k.WithContext(ctx)), context.Canceled)
	if n := count(); n != 0 {
		t.Errorf("%d commands", n)
	}
}

// The error of a canceled operation is context.Canceled, and the cause that its caller gave.
func TestCancelCause(t *testing.T) {
	t.Parallel()
	inBoth(t, testCancelCause)
}

func testCancelCause(t *testing.T, gen generation) {
	k, g, _ := gated(t, gen, gen.plain, gen.sign)
	g.let()
	reason := errors.New("the office closes")
	ctx, cancel := context.WithCancelCause(context.Background())
	cancel(reason)
	err := signs(k.WithContext(ctx))
	tpmtest.WantError(t, err, reason)
	tpmtest.WantError(t, err, context.Canceled)
}

// An operation under way goes on without its caller, and the session with it.
func TestCancelledInMidOperation(t *testing.T) {
	t.Parallel()
	inBoth(t, testCancelledInMidOperation)
}

func testCancelledInMidOperation(t *testing.T, gen generation) {
	k, g, count := gated(t, gen, gen.secret, gen.sign)
	ctx, cancel := context.WithCancel(context.Background())
	first := inBackground(func() error { return signs(k.WithContext(ctx)) })
	<-g.reached
	cancel()
	tpmtest.WantError(t, <-first, context.Canceled) // while the gate is closed
	second := inBackground(func() error { return signs(k, "second") })
	g.let()
	if err := <-second; err != nil {
		t.Error(err)
	}
	if err := signs(k, "third"); err != nil {
		t.Error(err)
	}
	if n := count(); n != 3 || count(gen.sign) != 3 {
		t.Errorf("%d commands, %d signatures", n, count(gen.sign))
	}
}

// A caller that has given up may change the bytes that it wanted signed or decrypted.
func TestCancelledLeavesTheCallersBytes(t *testing.T) {
	t.Parallel()
	inBoth(t, testCancelledLeavesTheCallersBytes)
}

func testCancelledLeavesTheCallersBytes(t *testing.T, gen generation) {
	for _, decrypt := range []bool{false, true} {
		k, g, _ := gated(t, gen, gen.counted, gen.getCap) // before the command is built
		ctx, cancel := context.WithCancel(context.Background())
		input := make([]byte, 256)
		input[255] = 1
		first := inBackground(func() (err error) {
			if decrypt {
				_, err = k.WithContext(ctx).Decrypt(nil, input, nil)
			} else {
				_, err = k.WithContext(ctx).Sign(nil, input[:200], crypto.Hash(0))
			}
			return err
		})
		<-g.reached
		cancel()
		tpmtest.WantError(t, <-first, context.Canceled)
		go g.let()
		for i := range 100 { // seen by the race detector
			clear(input)
			input[i] = 1
			time.Sleep(10 * time.Microsecond)
		}
		if err := signs(k); err != nil {
			t.Error(err)
		}
	}
}

// Close waits for what goes on without its caller.
func TestCloseAfterCancel(t *testing.T) {
	t.Parallel()
	inBoth(t, testCloseAfterCancel)
}

func testCloseAfterCancel(t *testing.T, gen generation) {
	k, g, _ := gated(t, gen, gen.secret, gen.sign)
	ctx, cancel := context.WithCancel(context.Background())
	first := inBackground(func() error { return signs(k.WithContext(ctx)) })
	<-g.reached
	cancel()
	tpmtest.WantError(t, <-first, context.Canceled)
	closed := inBackground(k.Close)
	select {
	case err := <-closed:
		t.Error("closed under an operation:", err)
	case <-time.After(20 * time.Millisecond):
	}
	g.let()
	if err := <-closed; err != nil {
		t.Error(err)
	}
	tpmtest.WantError(t, signs(k), tpmkey.ErrClosed)
}

// connected are the two ends of a connection of the network.
func connected(t *testing.T) (server, client net.Conn) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	if client, err = net.Dial("tcp", ln.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if server, err = ln.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { server.Close(); client.Close() })
	return server, client
}

// wrapped is a connection as programs wrap them.
type wrapped struct{ net.Conn }

func (w wrapped) NetConn() net.Conn { return w.Conn }

func TestHungUpWhileWaiting(t *testing.T) {
	t.Parallel()
	inBoth(t, testHungUpWhileWaiting)
}

func testHungUpWhileWaiting(t *testing.T, gen generation) {
	for name, wrap := range map[string]func(net.Conn) net.Conn{
		"bare":          func(c net.Conn) net.Conn { return c },
		"TLS":           func(c net.Conn) net.Conn { return tls.Server(c, &tls.Config{}) },
		"wrapped twice": func(c net.Conn) net.Conn { return wrapped{wrapped{c}} },
	} {
		k, g, count := gated(t, gen, gen.plain, gen.sign)
		server, client := connected(t)
		first := inBackground(func() error { return signs(k, "first") })
		<-g.reached
		waiting := inBackground(func() error { return signs(k.WithConn(context.Background(), wrap(server)), "second") })
		client.Close()
		if _, err := server.Read(make([]byte, 1)); err != io.EOF {
			t.Fatal(err)
		}
		g.let()
		if err := <-first; err != nil {
			t.Error(name, err)
		}
		if err := <-waiting; !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v", name, err)
		}
		tpmtest.WantError(t, signs(k.WithConn(context.Background(), wrap(server))), context.Canceled)
		if n := count(); n != 1 {
			t.Errorf("%s: %d commands", name, n)
		}
	}
}

// A living client is served, and nothing is read from it.
func TestWithConnReadsNothing(t *testing.T) {
	t.Parallel()
	inBoth(t, testWithConnReadsNothing)
}

func testWithConnReadsNothing(t *testing.T, gen generation) {
	k, g, _ := gated(t, gen, gen.plain, gen.sign)
	g.let()
	server, client := connected(t)
	if _, err := client.Write([]byte("bonjour")); err != nil {
		t.Fatal(err)
	}
	if err := signs(k.WithConn(context.Background(), server)); err != nil {
		t.Error(err)
	}
	got := make([]byte, 7)
	if _, err := server.Read(got); err != nil || string(got) != "bonjour" {
		t.Errorf("%q, %v", got, err)
	}
	pipe, other := net.Pipe() // of which nothing can be seen
	other.Close()
	if err := signs(k.WithConn(context.Background(), pipe)); err != nil {
		t.Error(err)
	}
	server.Close() // on this side
	tpmtest.WantError(t, signs(k.WithConn(context.Background(), server)), context.Canceled)
}

// TLS clients that hang up in the queue cost no command.
func TestHandshakesOfClosedConnections(t *testing.T) { inBoth(t, testHandshakesOfClosedConnections) }

func testHandshakesOfClosedConnections(t *testing.T, gen generation) {
	k, g, count := gated(t, gen, gen.plain, gen.sign)
	cert := make(chan []byte, 1)
	go func() { cert <- selfSigned(t, k) }()
	<-g.reached
	g.open <- struct{}{}
	server, err := k.TLSConfigPEM(<-cert)
	if err != nil {
		t.Fatal(err)
	}
	first := inBackground(func() error { return signs(k) })
	<-g.reached
	const n = 20
	var ends []<-chan error
	var clients []net.Conn
	var asked atomic.Int32 // for a signature, soon
	give := server.GetCertificate
	server.GetCertificate = func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
		asked.Add(1)
		return give(hello)
	}
	for range n {
		s, c := connected(t)
		ends = append(ends, inBackground(tls.Server(s, server).Handshake))
		go tls.Client(c, &tls.Config{InsecureSkipVerify: true}).Handshake()
		clients = append(clients, c)
	}
	eventually(t, "all wait", func() bool { return asked.Load() == n })
	for _, c := range clients {
		c.Close()
	}
	g.let()
	if err := <-first; err != nil {
		t.Error(err)
	}
	for _, end := range ends {
		if err := <-end; err == nil {
			t.Error("a dead client's handshake succeeded")
		}
	}
	if got := count(gen.sign); got != 2 {
		t.Errorf("%d signatures, not 2", got)
	}
}

// Callers that give up leave nothing behind: no turn is lost, no goroutine stays.
func TestStormOfCancellations(t *testing.T) {
	tpmtest.Long(t, tpmtest.Stress)
	inBoth(t, testStormOfCancellations)
}

func testStormOfCancellations(t *testing.T, gen generation) {
	tpm := openState(t, gen.state)
	keys := []*tpmkey.Key{loadFixture(t, tpm, gen.plain), loadFixture(t, tpm, gen.secret)}
	for _, k := range keys {
		if err := signs(k); err != nil {
			t.Fatal(err)
		}
	}
	before := runtime.NumGoroutine()
	var wg sync.WaitGroup
	for i := range 32 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for n := range 15 {
				ctx, cancel := context.WithTimeout(context.Background(), time.Duration(i*n)*100*time.Microsecond)
				err := signs(keys[i%2].WithContext(ctx), i, n)
				if err != nil && !errors.Is(err, context.DeadlineExceeded) {
					t.Error(err)
				}
				cancel()
			}
		}()
	}
	wg.Wait()
	for i, k := range keys {
		if err := signs(k, i); err != nil {
			t.Error(err)
		}
	}
	eventually(t, "no goroutine is left", func() bool { return runtime.NumGoroutine() <= before })
}
