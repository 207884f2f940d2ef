//go:build linux

package bench

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"maclef/internal/tpmtest"
	"maclef/tpmkey"
)

// privateKeys are made once, in software: that is quick, and what comes out of them is known.
var privateKeys = sync.OnceValue(func() map[string]crypto.Signer {
	keys := make(map[string]crypto.Signer)
	for _, name := range slices.Concat(names12, names20) {
		var err error
		switch name {
		case "p256":
			keys[name], err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		case "p384":
			keys[name], err = ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
		default:
			keys[name], err = rsa.GenerateKey(rand.Reader, 2048)
		}
		if err != nil {
			panic(err)
		}
	}
	return keys
})

// The names of those that a TPM of each generation gets. On a TPM 1.2 they all fit into
// the chip, with a secret and without, on a TPM 2.0 not.
var (
	names12 = []string{"rsa", "rsa2", "rsa3"}
	names20 = []string{"rsa", "p256", "p384"}
)

// A keyFile is a key file, and its password where it has one.
type keyFile struct {
	Path, Password string
	Asked          bool // for the password each time, which is not kept
}

// String names its kind in benchmarks.
func (f keyFile) String() string {
	switch {
	case f.Asked:
		return "secret=asked"
	case f.Password != "":
		return "secret=yes"
	}
	return "secret=no"
}

// useKeys opens the TPM, loads keys as any program does, and closes everything.
func useKeys(name string, files []keyFile, use func([]*tpmkey.Key) error) (err error) {
	tpm, err := tpmkey.Open(context.Background(), name)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, tpm.Close()) }()
	var keys []*tpmkey.Key
	for _, f := range files {
		opts := new(tpmkey.LoadOptions)
		if f.Password != "" {
			opts.Auth = tpmkey.Password([]byte(f.Password))
		}
		if secret := opts.Auth; f.Asked {
			opts.Auth = tpmkey.AskSecret(func() (tpmkey.Secret, error) { return secret, nil })
		}
		k, err := tpm.LoadFile(context.Background(), f.Path, opts)
		if err != nil {
			return err
		}
		keys = append(keys, k)
	}
	return use(keys)
}

// A chip is a software TPM, and two key files for each private key that it takes: one
// without a secret, and one with.
type chip struct {
	*tpmtest.SWTPM
	socket        string // or that of a relay before it
	plain, secret map[string]keyFile
}

// newChip starts a TPM that ends with the test, and says which one it is.
func newChip(tb testing.TB, state tpmtest.State) *chip {
	s := tpmtest.Start(tb, state)
	c := &chip{s, strings.TrimPrefix(s.Socket, "unix:"), make(map[string]keyFile), make(map[string]keyFile)}
	check(tb, os.Symlink(c.Control, c.socket+".ctrl")) // where tpm2-tss looks for it
	keys := names12
	if c.Is20() {
		c.Send(tpmtest.LockoutParameters(1_000_000, 1000, 1000)) // nobody is locked out by restarts
		keys = names20
	}
	tpm, err := tpmkey.Open(tb.Context(), c.name())
	check(tb, err)
	for _, key := range keys {
		c.plain[key] = c.wrap(tb, tpm, key, "")
		c.secret[key] = c.wrap(tb, tpm, key, "motdepasse")
	}
	status, err := tpm.Status(tb.Context())
	check(tb, errors.Join(err, tpm.Close()))
	version, _ := exec.Command("swtpm", "--version").Output()
	libtpms, _ := filepath.Glob("/usr/lib/*/libtpms.so.*.*")
	number := regexp.MustCompile(`\d+(\.\d+)+`)
	fmt.Printf("On %v, %d key slots: swtpm %s, libtpms %s\n", status, status.MaxKeys,
		number.Find(version), number.FindString(strings.Join(libtpms, " ")))
	return c
}

func (c *chip) wrap(tb testing.TB, tpm *tpmkey.TPM, name, password string) keyFile {
	opts := &tpmkey.WrapOptions{OwnerAuth: tpmkey.WellKnown()}
	if password != "" {
		opts.Auth = tpmkey.Password([]byte(password))
	}
	key, err := tpm.Wrap(tb.Context(), privateKeys()[name], opts)
	check(tb, err)
	data, err := key.Marshal(key.Container())
	check(tb, err)
	f := keyFile{Path: c.path(name + password), Password: password}
	check(tb, os.WriteFile(f.Path, data, 0o600))
	return f
}

// eachChip measures on a TPM of each generation.
func eachChip(b *testing.B, measure func(b *testing.B, c *chip)) {
	b.Run("tpm=1.2", func(b *testing.B) { measure(b, newChip(b, tpmtest.WellKnown)) })
	b.Run("tpm=2.0", func(b *testing.B) { measure(b, newChip(b, tpmtest.TPM20)) })
}

// name is what tpmkey.Open takes.
func (c *chip) name() string { return "unix:" + c.socket }

// path is that of a file that is removed with the TPM.
func (c *chip) path(name string) string { return filepath.Join(c.Dir, name) }

// free frees what others have left in the TPM, and the contexts on disk.
func (c *chip) free(tb testing.TB) {
	tpm, err := tpmkey.Open(tb.Context(), c.name())
	check(tb, err)
	_, _, err = tpm.FlushOrphans(tb.Context(), true)
	check(tb, errors.Join(err, tpm.Close()))
}

// behind is the same TPM for who comes to it by a relay, until the benchmark ends. Before
// a command goes on, the relay calls before. Like swtpm it serves one client at a time.
func (c *chip) behind(b *testing.B, before func(cmd []byte)) *chip {
	front := *c
	front.socket = c.path("relay")
	r, err := tpmtest.Listen(front.socket, c.socket, true, func(r *tpmtest.ProxyConn, cmd []byte) ([]byte, error) {
		before(cmd)
		return r.Send(cmd)
	})
	check(b, err)
	check(b, os.Symlink(c.Control, front.socket+".ctrl"))
	b.Cleanup(func() {
		r.Close()
		r.Wait()
		os.Remove(front.socket + ".ctrl")
	})
	return &front
}

// counting is the TPM behind a counter. That takes time, so nothing is timed there. taken
// are the names of the commands since it was called last, without "TPM_" or "TPM2_".
func (c *chip) counting(b *testing.B) (front *chip, taken func() []string) {
	var mu sync.Mutex
	var names []string
	front = c.behind(b, func(cmd []byte) {
		mu.Lock()
		defer mu.Unlock()
		names = append(names, commandName(cmd))
	})
	return front, func() []string {
		mu.Lock()
		defer mu.Unlock()
		all := names
		names = nil
		return all
	}
}

func commandName(cmd []byte) string {
	_, name, _ := strings.Cut(tpmtest.CommandName(cmd), "_")
	return name
}

// Commands by which a turn brings keys and sessions in, and takes them out, of both
// generations.
var (
	loads        = []string{"LoadKey2", "LoadContext", "Load", "ContextLoad"}
	housekeeping = []string{
		"OIAP", "OSAP", "SaveContext", "LoadContext", "FlushSpecific",
		"StartAuthSession", "ContextSave", "ContextLoad", "FlushContext",
	}
)

// count is how many commands have one of some names.
func count(commands, names []string) (n int) {
	for _, name := range commands {
		if slices.Contains(names, name) {
			n++
		}
	}
	return n
}

// reportCommands reports how many commands each of so many operations took; besides
// housekeeping it should be this many at most. others are commands of something else.
func reportCommands(b *testing.B, commands []string, done, others int, most float64) {
	n := len(commands) - others
	b.ReportMetric(float64(n)/float64(done), "cmds/op")
	atMost(b, "in-turn/op", float64(n-count(commands, housekeeping))/float64(done), most)
}
