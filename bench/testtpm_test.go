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

// privateKeys are software keys, made once: that is quick, and the results of their
// operations are known.
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

// Names of the keys for a TPM of each generation. All keys of a TPM 1.2 fit into it at
// once, with and without a secret. Those of a TPM 2.0 do not.
var (
	names12 = []string{"rsa", "rsa2", "rsa3"}
	names20 = []string{"rsa", "p256", "p384"}
)

// A keyFile is a key file, and its password if it has one.
type keyFile struct {
	Path, Password string
	Asked          bool // ask for the password for each use, and do not keep it
}

// String names the kind of secret in the names of benchmarks.
func (f keyFile) String() string {
	switch {
	case f.Asked:
		return "secret=asked"
	case f.Password != "":
		return "secret=yes"
	}
	return "secret=no"
}

// useKeys opens the TPM, loads keys as a program does, calls use, and closes everything.
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

// A testTPM is a software TPM with two key files for each private key: one without a
// secret, and one with a secret.
type testTPM struct {
	*tpmtest.SWTPM
	socket        string // of the TPM, or of a proxy before it
	plain, secret map[string]keyFile
}

// newTestTPM starts a TPM that ends with the test, and prints its versions.
func newTestTPM(tb testing.TB, state tpmtest.State) *testTPM {
	s := tpmtest.Start(tb, state)
	c := &testTPM{s, strings.TrimPrefix(s.Socket, "unix:"), make(map[string]keyFile), make(map[string]keyFile)}
	check(tb, os.Symlink(c.Control, c.socket+".ctrl")) // tpm2-tss expects it there
	keys := names12
	if c.Is20() {
		c.Send(tpmtest.LockoutParameters(1_000_000, 1000, 1000)) // so that restarts do not lead to a lockout
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

func (c *testTPM) wrap(tb testing.TB, tpm *tpmkey.TPM, name, password string) keyFile {
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

// eachTPM runs a benchmark on a TPM of each generation.
func eachTPM(b *testing.B, measure func(b *testing.B, c *testTPM)) {
	b.Run("tpm=1.2", func(b *testing.B) { measure(b, newTestTPM(b, tpmtest.WellKnown)) })
	b.Run("tpm=2.0", func(b *testing.B) { measure(b, newTestTPM(b, tpmtest.TPM20)) })
}

// name returns the name for tpmkey.Open.
func (c *testTPM) name() string { return "unix:" + c.socket }

// path returns the path of a file that is removed with the TPM.
func (c *testTPM) path(name string) string { return filepath.Join(c.Dir, name) }

// free flushes what other programs have left in the TPM, and removes the contexts on disk.
func (c *testTPM) free(tb testing.TB) {
	tpm, err := tpmkey.Open(tb.Context(), c.name())
	check(tb, err)
	_, _, err = tpm.FlushOrphans(tb.Context(), true)
	check(tb, errors.Join(err, tpm.Close()))
}

// withProxy returns the same TPM behind a proxy, until the benchmark ends. The proxy calls
// before for each command that it passes on. Like swtpm, it serves one client at a time.
func (c *testTPM) withProxy(b *testing.B, before func(cmd []byte)) *testTPM {
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

// withCounter returns the same TPM behind a proxy that records commands. The proxy takes
// time, so nothing is timed there. taken returns the names of the commands since its last
// call, without "TPM_" or "TPM2_".
func (c *testTPM) withCounter(b *testing.B) (front *testTPM, taken func() []string) {
	var mu sync.Mutex
	var names []string
	front = c.withProxy(b, func(cmd []byte) {
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

// Commands with which a turn loads and frees keys and sessions, of both generations.
var (
	loads        = []string{"LoadKey2", "LoadContext", "Load", "ContextLoad"}
	housekeeping = []string{
		"OIAP", "OSAP", "SaveContext", "LoadContext", "FlushSpecific",
		"StartAuthSession", "ContextSave", "ContextLoad", "FlushContext",
	}
)

// count returns how many commands have one of these names.
func count(commands, names []string) (n int) {
	for _, name := range commands {
		if slices.Contains(names, name) {
			n++
		}
	}
	return n
}

// reportCommands reports how many commands an operation took, in total and without
// housekeeping. The latter should be at most most. others is the number of commands for
// something else.
func reportCommands(b *testing.B, commands []string, done, others int, most float64) {
	n := len(commands) - others
	b.ReportMetric(float64(n)/float64(done), "cmds/op")
	atMost(b, "in-turn/op", float64(n-count(commands, housekeeping))/float64(done), most)
}
