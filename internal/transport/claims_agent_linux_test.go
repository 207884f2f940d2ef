package transport

import (
	"os"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestAskRoom(t *testing.T) {
	id := testID(t)
	l := testLedger(t, id)
	if n, err := l.askRoom(); n != 0 || err != nil {
		t.Error(n, err)
	}
	var asked atomic.Int32
	l.onAsked(func() { asked.Add(1) })
	l.onAsked(func() { t.Error("the second f was called") })
	if err := l.claim(ClaimKey, 1); err != nil {
		t.Fatal(err)
	}
	p, stranger := startClaimer(t, id, nil), startClaimer(t, id, asNobody)
	for _, q := range []*process{p, stranger} {
		q.want("listen", q.ask("listen"))
	}
	if n, err := l.askRoom(); n != 0 || err != nil {
		t.Error("asked who has no claims:", n, err)
	}
	p.want("claim <nil>", p.ask("claim k 2"))
	stranger.want("claim <nil>", stranger.ask("claim k 3"))
	if n, err := l.askRoom(); n != 2 || err != nil {
		t.Error(n, err)
	}
	p.want("asked <nil>", p.ask("asked"))
	stranger.want("asked <nil>", stranger.ask("asked"))
	for i, q := range []*process{p, stranger} {
		q.want("2 <nil>", q.ask("askroom"))
		await(t, "a call", func() bool { return asked.Load() == int32(i+1) })
	}
	l.close()
	p.want("1 <nil>", p.ask("askroom"))
	if asked.Load() != 2 {
		t.Error("called after close")
	}
}

// However often others ask, and whatever they send, calls are few; what they
// send along is not taken.
func TestAskedTooOften(t *testing.T) {
	id := testID(t)
	l, asker := testLedger(t, id), testLedger(t, id)
	if err := l.claim(ClaimKey, 1); err != nil {
		t.Fatal(err)
	}
	var asked atomic.Int32
	l.onAsked(func() { asked.Add(1) })
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	agent := &unix.SockaddrUnix{Name: "@" + socketName{kind: agentKind, owner: l.owner}.in(id)}
	for _, text := range []string{"", "roo", "rooms", "ROOM"} {
		if err := unix.Sendto(fd, []byte(text), 0, agent); err != nil {
			t.Fatal(err)
		}
	}
	before := descriptors(t)
	begin := time.Now()
	for range 100 {
		if n, err := asker.askRoom(); n != 1 || err != nil {
			t.Fatal(n, err)
		}
		// Blocks while the queue is full: all of them are heard.
		if err := unix.Sendmsg(fd, []byte(roomRequest), unix.UnixRights(fd, int(os.Stdin.Fd())), agent, 0); err != nil {
			t.Fatal(err)
		}
	}
	await(t, "a call", func() bool { return asked.Load() >= 1 })
	n := asked.Load()
	if limit := 1 + int32(time.Since(begin)/friendInterval); n > limit {
		t.Errorf("called %d times, want at most %d", n, limit)
	}
	if after := descriptors(t); after > before {
		t.Errorf("%d open files, before %d", after, before)
	}
}

func TestIntervals(t *testing.T) {
	ucred := func(uid int) []byte { return unix.UnixCredentials(&unix.Ucred{Pid: 1, Uid: uint32(uid), Gid: 1}) }
	for _, row := range []struct {
		credentials []byte
		want        time.Duration
	}{
		{ucred(0), friendInterval},
		{ucred(os.Getuid()), friendInterval},
		{ucred(os.Getuid() + 1), strangerInterval},
		{ucred(0)[:20], strangerInterval},
		{nil, strangerInterval},
		{unix.UnixRights(0), strangerInterval},
	} {
		if got := interval(row.credentials); got != row.want {
			t.Errorf("%x: %v, want %v", row.credentials, got, row.want)
		}
	}
}
