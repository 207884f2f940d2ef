package transport

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"
)

func TestClaimsLeakNothing(t *testing.T) {
	id := testID(t)
	goroutines, before := runtime.NumGoroutine(), descriptors(t)
	for range 1000 {
		l := newLedger(id)
		l.onAsked(func() {})
		if err := l.claim(ClaimKey, 1); err != nil {
			t.Fatal(err)
		}
		l.release(ClaimKey, 1)
		if err := l.claim(ClaimKey, 2); err != nil {
			t.Fatal(err)
		}
		l.close()
	}
	if _, err := newLedger(id).living(); err != nil {
		t.Fatal(err)
	}
	if after := descriptors(t); after > before {
		t.Errorf("%d open files, before %d", after, before)
	}
	await(t, "the end of goroutines", func() bool { return runtime.NumGoroutine() <= goroutines })
}

func TestClaimsAtOnce(t *testing.T) {
	l := testLedger(t, testID(t))
	together(8, func(i int) {
		for n := range 50 {
			handle := uint32(i*1000 + n%3)
			if err := l.claim(ClaimKey, handle); err != nil {
				t.Error(err)
			}
			if n%10 == 0 {
				if _, err := l.living(); err != nil {
					t.Error(err)
				}
				l.onAsked(func() {})
			}
			l.release(ClaimKey, handle)
		}
	})()
	wantLiving(t, l)
}

// While thousands of sockets come and go, no claim is missed.
func TestClaimsInACrowd(t *testing.T) {
	l := testLedger(t, testID(t))
	for h := range uint32(20) {
		if err := l.claim(ClaimKey, h); err != nil {
			t.Fatal(err)
		}
	}
	var stop atomic.Bool
	wait := together(2, func(i int) {
		for n := 0; !stop.Load(); n++ {
			var fds []int
			for m := range 200 {
				fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
				if err == nil {
					unix.Bind(fd, &unix.SockaddrUnix{Name: fmt.Sprintf("@crowd-%d-%d-%d-%d", os.Getpid(), i, n, m)})
					fds = append(fds, fd)
				}
			}
			for _, fd := range fds {
				unix.Close(fd)
			}
		}
	})
	for range 500 {
		claims, err := l.living()
		if err != nil || len(claims) != 20 {
			t.Error(len(claims), err)
		}
	}
	stop.Store(true)
	wait()
}

// Names that others bind.
func TestFalseClaims(t *testing.T) {
	id := testID(t)
	l := testLedger(t, id)
	own := namePrefix + id
	for _, name := range []string{own + "/k/00000001/77", own + "/k/00000001/0", own + "/k/1/77", own + "/k/0000000G/77", own + "/k/00000001/77-x",
		own + "/a/77", own + "/a/78", own + "/k/00000001/077", own + "/", own, own + "/k/00000001/77 ", own + "/k/00000001/77\x00", "\n" + own + "/k/00000002/77", "a\nb\n"} {
		fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(fd)
		if err := unix.Bind(fd, &unix.SockaddrUnix{Name: "@" + name}); err != nil {
			t.Fatal(name, err)
		}
	}
	wantLiving(t, l, "k 00000001 other")
	if n, err := l.askRoom(); n != 1 || err != nil {
		t.Error(n, err)
	}
}

// When no descriptor is left, nothing may be taken for left behind.
func TestLivingIsUnknown(t *testing.T) {
	p := startClaimer(t, testID(t), nil)
	p.want("living <nil>", p.ask("living"))
	p.want("limit <nil>", p.ask("limit 1"))
	p.want("claim claim k 00000001: socket: too many open files", p.ask("claim k 1"))
	p.want("living find what processes have loaded: socket: too many open files", p.ask("living"))
	p.want("listen <nil>", p.ask("listen"))
}

func TestTPMID(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "sock")
	server, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	link := path + "-link"
	if err := os.Symlink(path, link); err != nil {
		t.Fatal(err)
	}
	var stat unix.Stat_t
	if err := unix.Stat(path, &stat); err != nil {
		t.Fatal(err)
	}
	socket := fmt.Sprintf("u%x-%d", stat.Dev, stat.Ino)
	for _, row := range []struct{ network, address, want string }{
		{"unix", path, socket},
		{"unix", link, socket},
		{"device", "/dev/null", "d1-3"},
		{"tcp", "localhost:2321", "tlocalhost-2321"},
		{"tcp", "LOCALHOST.:2321", "tlocalhost-2321"},
		{"tcp", "127.0.0.1:2321", "tlocalhost-2321"},
		{"tcp", "127.1.2.3:2321", "tlocalhost-2321"},
		{"tcp", "[::1]:2321", "tlocalhost-2321"},
		{"tcp", "[::ffff:127.0.0.1]:2321", "tlocalhost-2321"},
		{"tcp", ":http", "tlocalhost-80"},
		{"tcp", "192.0.2.1:2321", "t192.0.2.1-2321"},
		{"tcp", "[2001:db8::1]:2321", "t2001:db8::1-2321"},
	} {
		if got, err := tpmID(row.network, row.address); got != row.want || err != nil {
			t.Errorf("%s %s: %q, %v; want %q", row.network, row.address, got, err, row.want)
		}
	}
	for _, row := range []struct{ network, address string }{{"tcp", "[fe80::1%a b]:1"}, {"unix", "@abstract"}} {
		if got, err := tpmID(row.network, row.address); !validID(got) || err != nil {
			t.Error(row, got, err)
		}
	}
	for _, row := range []struct{ network, address string }{{"unix", "/dev/null"}, {"device", path}, {"device", dir}, {"unix", dir + "/none"}, {"tcp", "nonsense"}, {"udp", path}} {
		if got, err := tpmID(row.network, row.address); err == nil {
			t.Error(row, got)
		}
	}
}

func FuzzSocketTable(f *testing.F) {
	const id = "u1f-42"
	head := "Num       RefCount Protocol Flags    Type St Inode Path\n"
	line := "00000000d0d9965e: 00000002 00000000 00000000 0002 01  1522 @maclef/" + id
	real, err := os.ReadFile(socketTable)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(string(real))
	for _, name := range []string{"/k/0180002a/77-0123456789abcdef\n", "/a/77-0123456789abcdef\n", "/k/00000001/77", "/k/00000001/77 \n", "/s/ffffffff/2147483647-\n", "/k/00000001/77-/\n", "/m/1@\n"} {
		f.Add(head + line + name)
	}
	f.Add(head + "maclef: 0 0 0 0002 01 1 @maclef/" + id + "/k/00000001/1\n")
	f.Add("")
	f.Fuzz(func(t *testing.T, table string) {
		parseSockets(strings.NewReader(table), id, func(n socketName) {
			name := n.in(id)
			if again, ok := parseName(name, id); !ok || again != n || len(name) > maxSunPath {
				t.Errorf("%q is %+v and %+v", name, n, again)
			}
			if !strings.Contains(table, " @"+name) || n.owner.pid < 1 || n.owner.pid > maxPID {
				t.Errorf("%+v is not in the table", n)
			}
		})
	})
}
