package interop

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"
	"github.com/google/go-tpm/tpm2/transport/linuxudstpm"

	"maclef/blob"
	"maclef/internal/tpmtest"
	"maclef/tpmkey"
)

// srk is the persistent parent that withSRK makes.
const srk = "0x81000001"

// secret is that of every key here that has one.
const secret = "motdepasse"

// A chip is a software TPM 2.0 that programs of several stacks use in turn: each
// must have left before the next can come, and what one leaves loaded takes the
// slots of the next.
type chip struct {
	name string // to open it by
	path string // of its socket
	dir  string // where programs run, and keys are
}

func newChip(t *testing.T) *chip {
	t.Helper()
	sw := tpmtest.Start(t, tpmtest.TPM20)
	path := filepath.Join(sw.Dir, "sock")
	if err := os.Symlink(sw.Control, path+".ctrl"); err != nil { // where tpm2-tss looks for it
		t.Fatal(err)
	}
	return &chip{name: sw.Socket, path: path, dir: t.TempDir()}
}

// withSRK has tpm2-tools provision the chip as their manual does: the default
// primary key, RSA and not exempt from lockout, becomes persistent.
func (c *chip) withSRK(t *testing.T) *chip {
	t.Helper()
	c.run(t, "tpm2_createprimary", "-C", "o", "-c", "srk.ctx")
	c.run(t, "tpm2_evictcontrol", "-C", "o", "-c", "srk.ctx", srk)
	return c
}

// primary has tpm2-tools make the primary key that key files mean by the owner's
// hierarchy, and returns the file of its context.
func (c *chip) primary(t *testing.T) string {
	t.Helper()
	c.run(t, "tpm2_createprimary", "-C", "o", "-G", "ecc", "-c", "primary.ctx",
		"-a", "fixedtpm|fixedparent|sensitivedataorigin|userwithauth|restricted|decrypt|noda")
	return "primary.ctx"
}

// file is the path of a file in the chip's directory.
func (c *chip) file(name string) string { return filepath.Join(c.dir, name) }

// write writes a file there.
func (c *chip) write(t *testing.T, name string, content []byte) string {
	t.Helper()
	if err := os.WriteFile(c.file(name), content, 0o600); err != nil {
		t.Fatal(err)
	}
	return c.file(name)
}

func (c *chip) read(t *testing.T, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(c.file(name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// command is a program that has the chip as its TPM, whichever stack it is of.
func (c *chip) command(ctx context.Context, name string, args ...string) *exec.Cmd {
	if own := filepath.Join(commands, name); filepath.Base(name) == name {
		if _, err := os.Stat(own); err == nil {
			name = own
		}
	}
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = c.dir
	cmd.Env = append(os.Environ(), "TPMKEY_TPM="+c.name,
		"TPM2TOOLS_TCTI=swtpm:path="+c.path, "TPM2OPENSSL_TCTI=swtpm:path="+c.path,
		"TSS2_LOG=all+none", "LC_ALL=C")
	cmd.WaitDelay = time.Second
	return cmd
}

// run runs a program, which must succeed, frees what it leaves loaded, and returns
// its standard output.
func (c *chip) run(t *testing.T, name string, args ...string) []byte {
	t.Helper()
	out, err := c.try(t, name, args...)
	if err != nil {
		t.Fatalf("%s %q: %v\n%s", name, args, err, out)
	}
	return out
}

// try is run for a program that may fail; then what it returns is both its outputs.
func (c *chip) try(t *testing.T, name string, args ...string) ([]byte, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	cmd := c.command(ctx, name, args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	c.flush(t)
	if err != nil {
		return append(stdout.Bytes(), stderr.Bytes()...), err
	}
	return stdout.Bytes(), nil
}

// openssl runs OpenSSL with the TPM's provider. Without «digest» and «cipher»,
// and with the providers in another order, it hashes in the TPM and runs out of
// slots.
func (c *chip) openssl(t *testing.T, command string, args ...string) []byte {
	t.Helper()
	return c.run(t, "openssl", append([]string{command}, append(provider(), args...)...)...)
}

func provider() []string {
	return []string{"-provider", "default", "-provider", "tpm2",
		"-propquery", "?provider=tpm2,tpm2.digest!=yes,tpm2.cipher!=yes"}
}

// raw opens the chip for go-tpm, past this project. Nobody else can use it until
// the test closes it.
func (c *chip) raw(t *testing.T) transport.TPMCloser {
	t.Helper()
	tpm, err := linuxudstpm.Open(c.path)
	if err != nil {
		t.Fatal(err)
	}
	return tpm
}

// flush frees all slots: this TPM has three, and tpm2-tools leave theirs full.
func (c *chip) flush(t *testing.T) {
	t.Helper()
	tpm := c.raw(t)
	defer tpm.Close()
	for _, first := range []uint32{0x80000000, 0x02000000} {
		rsp, err := tpm2.GetCapability{Capability: tpm2.TPMCapHandles, Property: first, PropertyCount: 64}.Execute(tpm)
		if err != nil {
			t.Fatal(err)
		}
		handles, err := rsp.CapabilityData.Data.Handles()
		if err != nil {
			t.Fatal(err)
		}
		for _, h := range handles.Handle {
			if _, err := (tpm2.FlushContext{FlushHandle: h}).Execute(tpm); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// use opens the chip with this project's library, and closes it after f.
func (c *chip) use(t *testing.T, f func(tpm *tpmkey.TPM)) {
	t.Helper()
	tpm, err := tpmkey.Open(t.Context(), c.name)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := tpm.Close(); err != nil {
			t.Error(err)
		}
	}()
	f(tpm)
}

// useKey loads a key file with this project's library, and closes it after f.
func (c *chip) useKey(t *testing.T, file string, opts *tpmkey.LoadOptions, f func(key *tpmkey.Key)) {
	t.Helper()
	c.use(t, func(tpm *tpmkey.TPM) {
		key, err := tpm.LoadFile(t.Context(), file, opts)
		if err != nil {
			t.Fatal(err)
		}
		f(key)
	})
}

// save writes what make makes into a file.
func (c *chip) save(t *testing.T, name string, make func(tpm *tpmkey.TPM) (blob.Key, error)) (key blob.Key, file string) {
	t.Helper()
	c.use(t, func(tpm *tpmkey.TPM) {
		var err error
		if key, err = make(tpm); err != nil {
			t.Fatal(err)
		}
	})
	b, err := key.Marshal(key.Container())
	if err != nil {
		t.Fatal(err)
	}
	return key, c.write(t, name, b)
}
