package tpmkey_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-tpm/tpm2"

	"maclef/internal/tpm12"
	"maclef/internal/tpm20"
	"maclef/internal/tpmtest"
	"maclef/tpmkey"
)

// An intruder is a user who cannot open the TPM. It takes names of sockets and of files,
// and connects to what there is.
type intruder struct {
	victim  string   // the number of its process
	ids     []string // of the TPM, in names of sockets
	folders []string // where it may write
	closed  []string // what it may not open

	sockets, files int // that it got
}

// newIntruder reads what intruderArgs has written.
func newIntruder(words []string) *intruder {
	p := &intruder{victim: words[0]}
	for _, word := range words[1:] {
		kind, what, _ := strings.Cut(word, "=")
		switch kind {
		case "id":
			p.ids = append(p.ids, what)
		case "folder":
			p.folders = append(p.folders, what)
		case "closed":
			p.closed = append(p.closed, what)
		}
	}
	return p
}

// intrude goes on until a time comes, and returns how many things it got.
func (p *intruder) intrude(end time.Time) (int, error) {
	for time.Now().Before(end) {
		fds := p.bind()
		p.sockets += len(fds)
		files := p.write()
		p.files += len(files)
		p.connect()
		err := p.open()
		for _, fd := range fds {
			syscall.Close(fd)
		}
		for _, f := range files {
			os.Remove(f)
		}
		if err != nil {
			return 0, err
		}
	}
	if p.sockets == 0 || p.files == 0 {
		return 0, fmt.Errorf("it got %d sockets and %d files", p.sockets, p.files)
	}
	return p.sockets + p.files, nil
}

// names are those by which programs once told each other what they had loaded, and others.
func (p *intruder) names() (all []string) {
	owners := []string{p.victim, fmt.Sprintf("%s-%016x", p.victim, rand.Uint64()), fmt.Sprintf("%d-%016x", os.Getpid(), rand.Uint64())}
	for _, id := range p.ids {
		for _, owner := range owners {
			all = append(all, fmt.Sprintf("maclef/%s/a/%s", id, owner), fmt.Sprintf("maclef/%s/m/%s", id, owner))
			for _, first := range []uint32{0x80000000, 0x02000000, 0x03000000, 0x01000000, rand.Uint32()} {
				for h := first; h < first+3; h++ {
					all = append(all, fmt.Sprintf("maclef/%s/k/%08x/%s", id, h, owner), fmt.Sprintf("maclef/%s/s/%08x/%s", id, h, owner))
				}
			}
		}
		all = append(all, "maclef/"+id, "maclef/"+id+"/k/", fmt.Sprintf("maclef/%x", rand.Uint64()))
	}
	return all
}

// bind takes abstract names.
func (p *intruder) bind() (fds []int) {
	for _, name := range p.names() {
		kind := []int{syscall.SOCK_DGRAM, syscall.SOCK_STREAM}[rand.IntN(2)]
		fd, err := syscall.Socket(syscall.AF_UNIX, kind|syscall.SOCK_CLOEXEC|syscall.SOCK_NONBLOCK, 0)
		if err != nil {
			break
		}
		if syscall.Bind(fd, &syscall.SockaddrUnix{Name: "@" + name}) != nil {
			syscall.Close(fd)
			continue
		}
		if kind == syscall.SOCK_STREAM {
			syscall.Listen(fd, 1)
		}
		fds = append(fds, fd)
	}
	return fds
}

// connect speaks to whoever has an abstract name of this project.
func (p *intruder) connect() {
	table, _ := os.ReadFile("/proc/net/unix")
	for _, line := range strings.Split(string(table), "\n") {
		_, name, ok := strings.Cut(line, " @maclef/")
		if !ok {
			continue
		}
		for _, kind := range []int{syscall.SOCK_DGRAM, syscall.SOCK_STREAM} {
			fd, err := syscall.Socket(syscall.AF_UNIX, kind|syscall.SOCK_CLOEXEC|syscall.SOCK_NONBLOCK, 0)
			if err != nil {
				return
			}
			if syscall.Connect(fd, &syscall.SockaddrUnix{Name: "@maclef/" + name}) == nil {
				syscall.Write(fd, []byte("maclef/room"))
			}
			syscall.Close(fd)
		}
	}
}

// write makes files, and links to what it may not open, under names that somebody could
// look for.
func (p *intruder) write() (made []string) {
	for _, folder := range p.folders {
		for _, base := range []string{"maclef", "maclef.lock", "users.lock", "start.lock", "swtpm.lock", ".lock", "tpm0", "tpmrm0", "maclef-" + p.victim} {
			path := filepath.Join(folder, base)
			err := os.Symlink(p.closed[rand.IntN(len(p.closed))], path)
			if err == nil && rand.IntN(2) == 0 {
				os.Remove(path)
				err = os.WriteFile(path, []byte("intruder"), 0o666)
			}
			if err == nil {
				made = append(made, path)
			}
		}
	}
	return made
}

// open tries the TPM and its files. That it can is an error of the test.
func (p *intruder) open() error {
	for _, path := range p.closed {
		if _, err := queueFor(path); err == nil {
			return fmt.Errorf("it can connect to %s", path)
		}
		if f, err := os.Open(path); err == nil {
			syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
			f.Close()
			return fmt.Errorf("it can open %s", path)
		}
		os.Remove(path)
		os.Rename(filepath.Dir(path), filepath.Dir(path)+"-intruder")
	}
	return nil
}

// intruderArgs are those that tell an intruder what to attack. Where it is the same user it
// leaves alone what it can open.
func intruderArgs(t *testing.T, g *ground, folders ...string) string {
	t.Helper()
	info, err := os.Stat(g.address)
	if err != nil {
		t.Fatal(err)
	}
	stat := info.Sys().(*syscall.Stat_t)
	words := []string{fmt.Sprint(os.Getpid()), fmt.Sprintf("id=u%x-%d", uint64(stat.Dev), stat.Ino), "id=d10-224", "id=tlocalhost-2321"}
	for _, folder := range folders {
		words = append(words, "folder="+folder)
	}
	if os.Getuid() != 0 {
		return strings.Join(append(words, "closed=/nowhere/none"), " ")
	}
	dir := filepath.Dir(g.address)
	for _, base := range []string{"sock", "ctrl", "users.lock", "start.lock", "tpm-00.permall", "tpm2-00.permall"} {
		words = append(words, "closed="+filepath.Join(dir, base))
	}
	return strings.Join(words, " ")
}

// asNobody runs a program without any rights, if this one can do that.
func asNobody(c *exec.Cmd) {
	if os.Getuid() == 0 {
		c.SysProcAttr.Credential = &syscall.Credential{Uid: 65534, Gid: 65534}
	}
	c.Dir = "/"
}

// A user who cannot open the TPM makes no command of another one fail.
func TestIntruder(t *testing.T) {
	tpmtest.Long(t, tpmtest.Stress)
	inBoth(t, testIntruder)
}

func testIntruder(t *testing.T, gen generation) {
	for _, way := range ways {
		if way.name == "tcp" {
			continue // which everybody can open
		}
		t.Run(way.name, func(t *testing.T) {
			g := way.open(t, gen)
			openName(t, g.name) // which starts an emulator
			intruded := intrude(t, g, 500*time.Millisecond)
			for rounds := 0; ; rounds++ {
				useEverything(t, g, gen, rounds)
				select {
				case err := <-intruded:
					t.Logf("%d rounds", rounds+1)
					if err != nil {
						t.Error(err)
					}
					return
				default:
				}
			}
		})
	}
}

// intrude has an intruder do its worst for a while.
func intrude(t *testing.T, g *ground, d time.Duration) <-chan error {
	t.Helper()
	public := t.TempDir()
	for _, dir := range []string{public, filepath.Dir(public)} {
		if err := os.Chmod(dir, 0o777|os.ModeSticky); err != nil {
			t.Fatal(err)
		}
	}
	p := startProgram(t, g.name, asNobody)
	p.tell(fmt.Sprintf("intrude-for %v %s", d, intruderArgs(t, g, os.TempDir(), filepath.Dir(filepath.Dir(g.address)), public)))
	return inBackground(func() error {
		_, err := p.resultWithin(time.Minute)
		return err
	})
}

// useEverything is what commands do: none may fail.
func useEverything(t *testing.T, g *ground, gen generation, round int) {
	t.Helper()
	tpm := openName(t, g.name)
	if _, err := tpm.Status(t.Context()); err != nil {
		t.Error(err)
	}
	keys := []*tpmkey.Key{loadFixture(t, tpm, gen.plain), loadFixture(t, tpm, gen.secret), loadWith(t, tpm, gen.counted, tutorialSRK(), asked())}
	for i, k := range keys {
		if err := signs(k, round, i); err != nil {
			t.Errorf("key %d: %v", i, err)
		}
	}
	opts := &tpmkey.CreateOptions{Type: tpmkey.RSA512, ParentAuth: tutorialSRK()}
	if gen.is20() {
		opts.Type = tpmkey.P256
	}
	if _, err := tpm.Create(t.Context(), opts); err != nil {
		t.Error(err)
	}
	if n, m, err := tpm.FlushOrphans(t.Context(), true); n+m > 0 || err != nil {
		t.Errorf("flushed %d keys, %d sessions, %v", n, m, err)
	}
	for _, k := range keys {
		if err := k.Close(); err != nil {
			t.Error(err)
		}
	}
	if err := tpm.Close(); err != nil {
		t.Error(err)
	}
}

// A program that fills the TPM does not stop others: they free what is in their way. They
// leave nothing loaded when they are idle, also where the TPM can save no more sessions.
func TestFilled(t *testing.T) {
	tpmtest.Long(t, tpmtest.Stress)
	inBoth(t, testFilled)
}

func testFilled(t *testing.T, gen generation) {
	g := unixGround(t, gen)
	tpm := openName(t, g.name)
	a := &asker{answer: motdepasse()}
	before := loadWith(t, tpm, gen.counted, tutorialSRK(), a.secret())
	mustSign(t, before)
	for round := range 3 {
		held := gen.fill(t, g)
		start := time.Now()
		keys := []*tpmkey.Key{before, loadWith(t, tpm, gen.counted, tutorialSRK(), asked())}
		for i, k := range keys {
			mustSign(t, k, round, i)
		}
		t.Logf("it held %v, and signed after %v", held, time.Since(start))
		gen.flushAt(t, g) // what was left and not in the way
		for i, k := range keys {
			mustSign(t, k, round, i)
		}
		if n := gen.flushAt(t, g); n > 0 {
			t.Errorf("round %d: it is idle, and %d keys and sessions are loaded", round, n)
		}
	}
	if n := tries(t, tpm); n != 0 {
		t.Errorf("%d tries are counted", n)
	}
	if n := int(a.n.Load()); n > 1+3 {
		t.Errorf("asked %d times, though the TPM was filled 3 times", n)
	}
}

// flushAt flushes all that is loaded, and returns how much that was.
func (gen generation) flushAt(t *testing.T, g *ground) int {
	t.Helper()
	bare := g.mustDial(t)
	defer bare.Close()
	n, err := gen.flush(bare)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// A program that fills the TPM again and again does not stop others.
func TestFilledAgainAndAgain(t *testing.T) {
	tpmtest.Long(t, tpmtest.Stress)
	inBoth(t, testFilledAgainAndAgain)
}

func testFilledAgainAndAgain(t *testing.T, gen generation) {
	g := unixGround(t, gen)
	tpm := openName(t, g.name)
	filled, stop := make(chan struct{}), make(chan struct{})
	filler := inBackground(func() error {
		for n := 0; ; n++ {
			select {
			case <-stop:
				return nil
			default:
			}
			gen.fill(t, g)
			if n == 0 {
				close(filled)
			}
		}
	})
	<-filled
	slowly, srk := &asker{answer: motdepasse()}, &asker{answer: tutorialSRK()}
	slowly.during, srk.during = func() { gen.fill(t, g) }, func() { gen.fill(t, g) }
	for i := range 3 {
		k := loadWith(t, tpm, gen.counted, srk.secret(), slowly.secret())
		for range 3 {
			if err := signs(k, i); err != nil {
				t.Errorf("key %d: %v", i, err)
			}
		}
	}
	close(stop)
	<-filler
	if n := tries(t, tpm); n != 0 {
		t.Errorf("%d tries are counted", n)
	}
}

// fill fills a TPM with saved sessions, with keys, and with sessions, and returns how many.
func (gen generation) fill(t *testing.T, g *ground) (n [3]int) {
	t.Helper()
	bare, err := g.dial()
	if err != nil {
		t.Error(err)
		return n
	}
	defer bare.Close()
	f := newFiller(t, gen, bare)
	for i, more := range []func() error{f.save, f.key, f.session} {
		err := more()
		for ; err == nil && n[i] < 1000; err = more() {
			n[i]++
		}
		if !slices.ContainsFunc(full, func(want error) bool { return errors.Is(err, want) }) {
			t.Errorf("filling it: %d, %v", n, err)
		}
	}
	return n
}

// full are what a full TPM says.
var full = []error{
	tpm12.NoContextSpace, tpm12.Resources, tpm12.NoSpace,
	tpm2.TPMRCSessionHandles, tpm2.TPMRCSessionMemory, tpm2.TPMRCObjectMemory, errEnough,
}

// A filler loads one thing of a kind into a TPM.
type filler struct{ save, key, session func() error }

func newFiller(t *testing.T, gen generation, bare *bareTPM) filler {
	if gen.is20() {
		return newFiller20(bare)
	}
	conn := tpm12.New(bare)
	file := fixture12(t, "auth").Bytes()
	srk, secret := tpm12.Secret(digestOf("sha1", nil)), tpm12.Secret(digestOf("sha1", []byte("motdepasse")))
	var loaded tpm12.Handle
	open := func() (*tpm12.KeySession, error) { return conn.OpenKeySession(loaded, &secret) }
	key := func() error {
		h, err := conn.LoadKey2(tpm12.SRK, file, &srk)
		if err == nil {
			loaded = h
		}
		return err
	}
	save := func() error {
		if loaded == 0 {
			if err := key(); err != nil {
				return err
			}
		}
		s, err := open()
		if err == nil {
			err = s.Save()
		}
		return err
	}
	return filler{save, key, func() error { _, err := open(); return err }}
}

// errEnough leaves places for as many sessions as a TPM 2.0 loads of those that it knows.
var errEnough = errors.New("enough sessions are saved")

func newFiller20(bare *bareTPM) filler {
	conn := tpm20.New(bare)
	saved, area := 0, kind20{sign: true, curve: tpm2.TPMECCNistP256}.area()
	return filler{
		save: func() error {
			if saved++; saved > 61 {
				return errEnough
			}
			s, err := conn.StartHMAC(nil, nil, nil)
			if err == nil {
				err = s.Save()
			}
			return err
		},
		key: func() error {
			_, err := tpm2.CreatePrimary{PrimaryHandle: tpm2.TPMRHOwner, InPublic: tpm2.New2B(*area)}.Execute(bare)
			return err
		},
		session: func() error {
			_, err := conn.StartHMAC(nil, nil, nil)
			return err
		},
	}
}
