package main

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"maclef/blob"
	"maclef/internal/cli"
	"maclef/internal/ecryptfs"
	"maclef/tpmkey"
)

// A chip is the TPM with the key, for as long as a directory is mounted. Where
// the TPM lost the key (it restarted, or somebody flushed it), or its connection,
// it is opened anew.
type chip struct {
	env  *cli.Env
	o    *options
	file *blob.Key

	turn    sync.Mutex    // held while a key is unwrapped; a TPM does one thing at a time anyway
	slowest time.Duration // of the unwrappings so far, guarded by turn

	mu     sync.Mutex // guards what follows
	name   string     // of the TPM, from anywhere
	tpm    *tpmkey.TPM
	key    *tpmkey.Key
	closed bool
}

func newChip(env *cli.Env, o *options, file *blob.Key) *chip {
	return &chip{env: env, o: o, file: file, name: *o.tpm}
}

// open opens the TPM and loads the key. The key's own secret is asked for here, so
// that nobody is asked in the background, and no asking is measured.
func (c *chip) open() error {
	if _, err := c.load(); err != nil {
		return err
	}
	if c.file.NeedsSecret() {
		if _, err := c.o.keyPass.Resolve(); err != nil {
			return fmt.Errorf("load %s: %w", *c.o.key, err)
		}
	}
	return nil
}

// load opens the TPM and loads the key. It holds no lock meanwhile: somebody may be
// asked for a secret, and interrupt that.
func (c *chip) load() (*tpmkey.Key, error) {
	c.mu.Lock()
	name := c.name
	c.mu.Unlock()
	tpm, err := c.env.OpenTPM(name)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	closed := c.closed
	if !closed {
		c.tpm, c.name = tpm, absoluteTPM(tpm.Name())
	}
	c.mu.Unlock()
	if closed {
		tpm.Close()
		return nil, tpmkey.ErrClosed
	}
	key, err := cli.LoadKey(tpm, *c.o.key, c.file, c.o.srk, c.o.keyPass)
	if err != nil {
		c.unload()
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.key = key
	return key, nil
}

// absoluteTPM is the name of a TPM when the working directory is another one.
func absoluteTPM(name string) string {
	form, path, colon := strings.Cut(name, ":")
	switch {
	case !colon:
		form, path = "", name
	case form == "unix" || form == "emulator":
		form += ":"
	default:
		return name
	}
	if absolute, err := filepath.Abs(path); err == nil {
		path = absolute
	}
	return form + path
}

// unload closes the TPM, which frees the key's place in it.
func (c *chip) unload() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.tpm != nil {
		c.tpm.Close()
	}
	c.tpm, c.key = nil, nil
}

// close is unload for good.
func (c *chip) close() {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	c.unload()
}

// loaded is the key, nil where the TPM was lost.
func (c *chip) loaded() *tpmkey.Key {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.key
}

// wrap encrypts with the public key, without the TPM.
func (c *chip) wrap(message []byte) ([]byte, error) { return tpmkey.Encrypt(c.file, message) }

// unwrap decrypts with the TPM's key.
func (c *chip) unwrap(wrapped []byte) ([]byte, error) {
	c.turn.Lock()
	defer c.turn.Unlock()
	key := c.loaded()
	if key != nil {
		plain, err := c.decrypt(key, wrapped)
		if !errors.Is(err, tpmkey.ErrUnloaded) && !errors.Is(err, tpmkey.ErrGone) {
			return plain, err
		}
		c.unload()
	}
	key, err := c.load()
	if err != nil {
		return nil, err
	}
	return c.decrypt(key, wrapped)
}

func (c *chip) decrypt(key *tpmkey.Key, wrapped []byte) ([]byte, error) {
	begin := time.Now()
	plain, err := key.Decrypt(nil, wrapped, nil)
	c.slowest = max(c.slowest, time.Since(begin))
	return plain, err
}

// took is how long the slowest unwrapping took so far.
func (c *chip) took() time.Duration {
	c.turn.Lock()
	defer c.turn.Unlock()
	return c.slowest
}

// roundTrip proves that the TPM opens what is wrapped with the key.
func (c *chip) roundTrip() error {
	message := make([]byte, 16)
	if _, err := rand.Read(message); err != nil {
		return err
	}
	wrapped, err := c.wrap(message)
	if err != nil {
		return err
	}
	plain, err := c.unwrap(wrapped)
	if err == nil && !bytes.Equal(plain, message) {
		err = errors.New("the TPM decrypted something else than was encrypted")
	}
	if err != nil {
		return fmt.Errorf("try the key %s: %w", *c.o.key, err)
	}
	return nil
}

// tryFile proves that the TPM opens the key of a file that is there.
func (c *chip) tryFile(path string, wrapped []byte) error {
	key, err := c.unwrap(wrapped)
	defer clear(key)
	if errors.Is(err, rsa.ErrDecryption) || err == nil && ecryptfs.CheckFileKey(key) != nil {
		err = errBadFileKey
	}
	if err != nil {
		return fmt.Errorf("try to open %s: %w", path, err)
	}
	return nil
}

// errBadFileKey is a wrapped key with something else in it.
var errBadFileKey = errors.New("the key in it is damaged")

// freeLeftovers frees what a killed ecryptmount left loaded. What living programs
// say is theirs stays.
func (c *chip) freeLeftovers() error {
	tpm, err := c.env.OpenTPM(*c.o.tpm)
	if err != nil {
		return err
	}
	defer tpm.Close()
	n, _, err := tpm.FlushLeftovers()
	if n > 0 {
		c.env.Notef("freed %s that it had left loaded in the TPM", cli.Counted(n, "key"))
	}
	return err
}
