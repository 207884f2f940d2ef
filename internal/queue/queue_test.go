package queue

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// waiting is how many wait in a queue.
func (q *Queue) waiting() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.noDeadline) + len(q.withDeadline)
}

func await(t *testing.T, what string, so func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !so(); time.Sleep(100 * time.Microsecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not so after 20 seconds: %s", what)
		}
	}
}

func mustEnter(t *testing.T, q *Queue) {
	t.Helper()
	if err := q.Enter(context.Background(), nil); err != nil {
		t.Fatal(err)
	}
}

// A line is operations that came one after the other, and what they were told.
type line struct {
	t      *testing.T
	q      *Queue
	served chan string
	told   map[string]chan error
}

// newLine makes a Queue in which somebody is being served.
func newLine(t *testing.T, typical time.Duration) *line {
	q := &Queue{typical: typical}
	mustEnter(t, q)
	return &line{t, q, make(chan string, 100), map[string]chan error{}}
}

// join has an operation wait, and returns when it does.
func (l *line) join(name string, ctx context.Context, alive func() error) {
	l.t.Helper()
	n := l.q.waiting()
	told := make(chan error, 1)
	l.told[name] = told
	go func() {
		err := l.q.Enter(ctx, alive)
		if err == nil {
			l.served <- name
		}
		told <- err
	}()
	await(l.t, name+" waits", func() bool { return l.q.waiting() == n+1 })
}

// order lets everybody be served, without taking any time that counts.
func (l *line) order() (names []string) {
	for range len(l.told) {
		l.q.mu.Lock()
		l.q.began = time.Now().Add(-l.q.typical) // as long as ever
		l.q.mu.Unlock()
		if !l.q.Leave() {
			break
		}
		names = append(names, <-l.served)
	}
	return names
}

func (l *line) want(names ...string) {
	l.t.Helper()
	if got := l.order(); !slices.Equal(got, names) {
		l.t.Errorf("served %q, want %q", got, names)
	}
}

// within is a context with a deadline; it ends with the test.
func within(t *testing.T, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	t.Cleanup(cancel)
	return ctx
}

func TestQueueFirstComeFirstServed(t *testing.T) {
	l := newLine(t, time.Hour) // however slow the TPM is
	for _, name := range []string{"a", "b", "c", "d", "e"} {
		l.join(name, context.Background(), nil)
	}
	l.want("a", "b", "c", "d", "e")
}

// Operations with deadlines are served in order of arrival, too, while all of them can be
// served in time.
func TestQueueInTime(t *testing.T) {
	l := newLine(t, time.Second)
	for _, name := range []string{"a", "b", "c", "d"} {
		l.join(name, within(t, time.Hour), nil)
	}
	l.want("a", "b", "c", "d")
}

func TestQueueNewestFirstUnderOverload(t *testing.T) {
	l := newLine(t, 10*time.Minute) // five of them take 50 minutes
	for _, name := range []string{"a", "b", "c", "d", "e"} {
		l.join(name, within(t, 25*time.Minute), nil)
	}
	// The last two can be served in time again, and come in their order.
	l.want("e", "d", "c", "a", "b")
}

// A client without a deadline is expected to have little patience.
func TestQueueClientsUnderOverload(t *testing.T) {
	l := newLine(t, time.Minute)
	there := func() error { return nil }
	for _, name := range []string{"a", "b", "c"} {
		l.join(name, context.Background(), there)
	}
	l.want("c", "b", "a")
}

// Neither kind of operation keeps the other out.
func TestQueueTakesTurns(t *testing.T) {
	l := newLine(t, time.Minute)
	there := func() error { return nil }
	for _, name := range []string{"1", "2", "3", "4"} {
		l.join("noDeadline"+name, context.Background(), nil)
		l.join("withDeadline"+name, context.Background(), there)
	}
	got := l.order()
	for i := 1; i < len(got); i++ {
		if got[i][:6] == got[i-1][:6] {
			t.Errorf("two of a kind in a row: %q", got)
		}
	}
	if len(got) != 8 {
		t.Errorf("served %q", got)
	}
}

// An operation whose client has disconnected is not served, and is dropped before its turn
// would come.
func TestQueueDropsDisconnected(t *testing.T) {
	l := newLine(t, time.Minute)
	gone := errors.New("gone")
	var left atomic.Bool
	leaver := func() error {
		if left.Load() {
			return gone
		}
		return nil
	}
	l.join("noDeadline", context.Background(), nil)
	for _, name := range []string{"a", "b", "c"} {
		l.join(name, context.Background(), leaver)
	}
	l.join("stayer", context.Background(), func() error { return nil })
	left.Store(true)
	l.q.Leave() // serves one, and looks at all the others
	<-l.served
	for _, name := range []string{"a", "b", "c"} {
		if err := <-l.told[name]; err != gone {
			t.Errorf("%s was told %v", name, err)
		}
	}
	l.q.Leave()
	<-l.served
	if l.q.Leave() || l.q.waiting() != 0 {
		t.Error("somebody is left")
	}
}

// An operation that is not wanted any more does not begin on an idle TPM either.
func TestQueueLooksFirst(t *testing.T) {
	q := new(Queue)
	gone := errors.New("gone")
	if err := q.Enter(context.Background(), func() error { return gone }); err != gone {
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := q.Enter(ctx, nil); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	mustEnter(t, q)
}

func TestQueueClose(t *testing.T) {
	l := newLine(t, time.Second)
	l.join("noDeadline", context.Background(), nil)
	l.join("withDeadline", within(t, time.Hour), nil)
	const closers = 3
	closed := make(chan int, closers)
	for range closers {
		go func() {
			l.q.Close()
			closed <- 1
		}()
	}
	for name, told := range l.told {
		if err := <-told; err != ErrClosed {
			t.Errorf("%s was told %v", name, err)
		}
	}
	if err := l.q.Enter(context.Background(), nil); err != ErrClosed {
		t.Error(err)
	}
	select {
	case <-closed:
		t.Error("closed while somebody was being served")
	case <-time.After(20 * time.Millisecond):
	}
	if l.q.Leave() {
		t.Error("somebody was let in")
	}
	for range closers {
		<-closed
	}
	l.q.Close() // once more
	if err := l.q.Enter(context.Background(), nil); err != ErrClosed {
		t.Error(err)
	}
}

// Turns are lost nowhere, however many give up in the moment in which theirs comes,
// and no two run at a time.
func TestQueueStorm(t *testing.T) {
	q := new(Queue)
	var inside, served atomic.Int32
	use := func(ctx context.Context, alive func() error) {
		if q.Enter(ctx, alive) != nil {
			return
		}
		if inside.Add(1) != 1 {
			t.Error("two at a time")
		}
		if rand.IntN(4) == 0 {
			time.Sleep(10 * time.Microsecond)
		}
		served.Add(1)
		inside.Add(-1)
		q.Leave()
	}
	var wg sync.WaitGroup
	for i := range 64 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for range 200 {
				ctx, cancel := context.WithTimeout(context.Background(), time.Duration(rand.IntN(300))*time.Microsecond)
				switch i % 4 {
				case 0:
					use(context.Background(), nil)
				case 1:
					use(ctx, nil)
				case 2:
					go cancel()
					use(ctx, func() error { return nil })
				case 3:
					use(ctx, func() error {
						if rand.IntN(2) == 0 {
							return errors.New("gone")
						}
						return nil
					})
				}
				cancel()
			}
		}()
	}
	wg.Wait()
	if q.waiting() != 0 || q.busy {
		t.Errorf("%d wait, busy %v", q.waiting(), q.busy)
	}
	if n := served.Load(); n < 16*200 {
		t.Errorf("only %d were served, less than those that never give up", n)
	}
	mustEnter(t, q)
	q.Leave()
	q.Close()
}

// Closing meets a storm: everybody is let in or sent home, and after close returns
// nobody is inside.
func TestQueueClosedInAStorm(t *testing.T) {
	for range 50 {
		q := new(Queue)
		var inside atomic.Int32
		var wg sync.WaitGroup
		for i := range 16 {
			wg.Add(1)
			go func() {
				defer wg.Done()
				for {
					ctx, cancel := context.WithTimeout(context.Background(), time.Duration(i+1)*50*time.Microsecond)
					err := q.Enter(ctx, nil)
					cancel()
					if err == ErrClosed {
						return
					}
					if err == nil {
						inside.Add(1)
						inside.Add(-1)
						q.Leave()
					}
				}
			}()
		}
		for range 2 {
			wg.Add(1)
			go func() {
				defer wg.Done()
				q.Close()
				if inside.Load() != 0 {
					t.Error("closed with somebody inside")
				}
			}()
		}
		wg.Wait()
	}
}
