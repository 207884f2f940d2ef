package transport

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// beClaimer is a process with a ledger, which obeys the lines of its standard
// input, answering each: "claim k 1", "release k 1", "living", "listen",
// "askroom", "asked", "connect unix PATH", "limit 1".
func beClaimer(id string) {
	l := newLedger(id)
	asked := make(chan bool, 100)
	var conns []net.Conn
	fmt.Println("ready", os.Getpid())
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		var word, arg, address string
		var handle uint32
		var err error
		fmt.Sscan(in.Text(), &word, &arg, &address)
		fmt.Sscanf(address, "%x", &handle)
		switch word {
		case "claim":
			err = l.claim(arg[0], handle)
		case "release":
			l.release(arg[0], handle)
		case "listen":
			l.onAsked(func() { asked <- true })
		case "askroom":
			var n int
			n, err = l.askRoom()
			word = fmt.Sprint(n)
		case "asked":
			<-asked
		case "living":
			_, err = l.living()
		case "connect":
			var conn net.Conn
			if conn, err = dialAny(arg, address); err == nil {
				conns = append(conns, conn)
			}
		case "limit": // of open files
			var limit uint64
			fmt.Sscan(arg, &limit)
			err = unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: limit, Max: limit})
		}
		fmt.Println(word, err)
	}
	for _, conn := range conns {
		conn.Close()
	}
}

// dialAny connects; the path of a Unix socket may be of any length.
func dialAny(network, address string) (net.Conn, error) {
	if network == "unix" && len(address) > maxSunPath {
		dir, err := os.Open(filepath.Dir(address))
		if err != nil {
			return nil, err
		}
		defer dir.Close()
		address = fmt.Sprintf("/proc/self/fd/%d/%s", dir.Fd(), filepath.Base(address))
	}
	return net.Dial(network, address)
}

// maxSunPath is what an address of a Unix socket has room for.
const maxSunPath = 107

// startClaimer runs beClaimer(id) in another process; change may alter it.
func startClaimer(t *testing.T, id string, change func(*exec.Cmd)) *process {
	t.Helper()
	p := startUser(t, id, func(c *exec.Cmd) {
		c.Args[1] = "claimer"
		if change != nil {
			change(c)
		}
	})
	p.want("ready", p.answer())
	return p
}

// testID is the id of no TPM, for one test alone.
func testID(t *testing.T) string {
	return fmt.Sprintf("x%d-%d", os.Getpid(), lastID.Add(1))
}

var lastID atomic.Int32

func testLedger(t *testing.T, id string) *ledger {
	l := newLedger(id)
	t.Cleanup(l.close)
	return l
}

// wantLiving checks the living claims: "k 00000001 own", "s 0000000f other".
func wantLiving(t *testing.T, l *ledger, want ...string) {
	t.Helper()
	claims, err := l.living()
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, c := range claims {
		whose := "other"
		if c.PID == os.Getpid() {
			whose = "own"
		}
		got = append(got, fmt.Sprintf("%c %08x %s", c.Kind, c.Handle, whose))
	}
	if strings.Join(got, ", ") != strings.Join(want, ", ") {
		t.Errorf("claims are %q, want %q", got, want)
	}
}

// descriptors is the number of files that this process has open.
func descriptors(t *testing.T) int {
	t.Helper()
	files, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(files)
}

func TestClaims(t *testing.T) {
	id := testID(t)
	l, second := testLedger(t, id), testLedger(t, id)
	wantLiving(t, l)
	for range 2 {
		if err := l.claim(ClaimKey, 1); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(l.claim(ClaimSession, 1), l.claim(ClaimKey, 0xFFFFFFFF), second.claim(ClaimKey, 1)); err != nil {
		t.Fatal(err)
	}
	wantLiving(t, second, "k 00000001 own", "k 00000001 own", "k ffffffff own", "s 00000001 own")
	wantLiving(t, testLedger(t, testID(t)))
	l.release(ClaimKey, 1)
	l.release(ClaimKey, 1)
	wantLiving(t, l, "k 00000001 own", "k ffffffff own", "s 00000001 own")
	if err := l.claim(ClaimKey, 1); err != nil {
		t.Fatal(err)
	}
	wantLiving(t, l, "k 00000001 own", "k 00000001 own", "k ffffffff own", "s 00000001 own")
	l.close()
	l.close()
	wantLiving(t, l, "k 00000001 own")
	if err := l.claim(ClaimKey, 2); !errors.Is(err, os.ErrClosed) {
		t.Error(err)
	}
}

// await waits until something is so.
func await(t *testing.T, what string, so func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !so(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("waited in vain for " + what)
		}
	}
}

func TestClaimsOfBadIDs(t *testing.T) {
	for _, id := range []string{"", "A", "a/b", "a b", "a@b", "a\nb", strings.Repeat("a", maxID+1)} {
		l := testLedger(t, id)
		_, look := l.living()
		_, ask := l.askRoom()
		for _, err := range []error{l.claim(ClaimKey, 1), look, ask} {
			if !errors.Is(err, errID) {
				t.Errorf("%q: %v", id, err)
			}
		}
		l.onAsked(func() {})
	}
	longest := testLedger(t, strings.Repeat("a", maxID))
	longest.owner.pid = maxPID
	if err := longest.claim(ClaimKey, 1); err != nil {
		t.Error(err)
	}
	claims, err := longest.living()
	if len(claims) != 1 || err != nil || claims[0] != (Claim{ClaimKey, 1, true, maxPID, ""}) {
		t.Error(claims, err)
	}
}

func TestClaimsOfOtherProcesses(t *testing.T) {
	id := testID(t)
	l := testLedger(t, id)
	first, second := startClaimer(t, id, nil), startClaimer(t, id, asNobody)
	first.want("claim <nil>", first.ask("claim k 1"))
	first.want("claim <nil>", first.ask("claim s 2"))
	second.want("claim <nil>", second.ask("claim k 3"))
	if err := l.claim(ClaimKey, 4); err != nil {
		t.Fatal(err)
	}
	wantLiving(t, l, "k 00000001 other", "k 00000003 other", "k 00000004 own", "s 00000002 other")
	claims, err := l.living()
	comm, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", first.cmd.Process.Pid))
	want := Claim{ClaimKey, 1, false, first.cmd.Process.Pid, strings.TrimSpace(string(comm))}
	if err != nil || claims[0] != want || want.Program == "" {
		t.Error(claims[0], want, err)
	}
	first.want("release <nil>", first.ask("release k 1"))
	wantLiving(t, l, "k 00000003 other", "k 00000004 own", "s 00000002 other")
	first.signal(syscall.SIGKILL)
	wantLiving(t, l, "k 00000003 other", "k 00000004 own")
}

// A program that a process has started does not keep its claims alive.
func TestClaimsAreNotInherited(t *testing.T) {
	l := testLedger(t, testID(t))
	if err := l.claim(ClaimKey, 1); err != nil {
		t.Fatal(err)
	}
	l.onAsked(func() {})
	child := exec.Command("sleep", "1000")
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	defer child.Wait()
	defer child.Process.Kill()
	l.close()
	wantLiving(t, l)
}

func TestClaimsOfAnotherNetwork(t *testing.T) {
	if os.Getuid() != 0 {
		cannot(t, "only root can make a network namespace")
	}
	id := testID(t)
	l := testLedger(t, id)
	p := startClaimer(t, id, func(c *exec.Cmd) { c.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET} })
	if err := l.claim(ClaimKey, 1); err != nil {
		t.Fatal(err)
	}
	p.want("claim <nil>", p.ask("claim k 1"))
	p.want("0 <nil>", p.ask("askroom"))
	wantLiving(t, l, "k 00000001 own")
}

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
