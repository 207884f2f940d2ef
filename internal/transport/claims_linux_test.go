package transport

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
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

// A program that is being started has its parent's sockets for a moment.
func TestClaimsOutliveNoRelease(t *testing.T) {
	l := testLedger(t, testID(t))
	if err := l.claim(ClaimKey, 1); err != nil {
		t.Fatal(err)
	}
	for _, fd := range l.claims {
		inherited, err := unix.Dup(fd)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(inherited)
	}
	l.release(ClaimKey, 1)
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
