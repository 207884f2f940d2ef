package main

import (
	"bytes"
	"cmp"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"maclef/blob"
	"maclef/ecryptmount/internal/ecryptfs"
	"maclef/internal/cli"
	"maclef/internal/transport"
	"maclef/tpmkey"
)

// A chip is the key in its TPM, for as long as a directory is mounted. Where the TPM
// lost the key, or went away and came back, package tpmkey loads it again.
type chip struct {
	env  *cli.Env
	o    *options
	file blob.Key

	mu      sync.Mutex // guards what follows
	tpm     *tpmkey.TPM
	key     *tpmkey.Key
	closed  bool
	slowest time.Duration // of the unwrappings so far
}

func newChip(env *cli.Env, o *options, file blob.Key) *chip {
	o.tpm.Name = absoluteTPM(cmp.Or(o.tpm.Name, os.Getenv(transport.EnvName)))
	return &chip{env: env, o: o, file: file}
}

// open opens the TPM and loads the key. The key's own secret is asked for here, so
// that nobody is asked in the background, and no asking is measured. It holds no
// lock meanwhile: a signal may interrupt the asking, and closes the TPM.
func (c *chip) open() error {
	tpm, err := c.env.OpenTPM(c.o.tpm)
	if err != nil {
		return err
	}
	if err := c.take(tpm); err != nil {
		return err
	}
	key, err := c.o.keys.Load(tpm, c.file)
	if err != nil {
		return err
	}
	c.mu.Lock()
	c.key = key
	c.mu.Unlock()
	if c.file.NeedsSecret() {
		if _, err := c.o.keyPass.Resolve(); err != nil {
			return fmt.Errorf("load %s: %w", *c.o.key, err)
		}
	}
	return nil
}

// take makes the TPM one that close closes.
func (c *chip) take(tpm *tpmkey.TPM) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		tpm.Close()
		return tpmkey.ErrClosed
	}
	c.tpm = tpm
	return nil
}

// close frees the key's place in the TPM.
func (c *chip) close() {
	c.mu.Lock()
	c.closed = true
	tpm := c.tpm
	c.mu.Unlock()
	if tpm != nil {
		tpm.Close()
	}
}

// absoluteTPM is the name of a TPM for when the working directory is another one.
func absoluteTPM(name string) string {
	form, path, _ := strings.Cut(name, ":")
	switch {
	case form == "unix":
		form += ":"
	case strings.Contains(form, "/"):
		form, path = "", name
	default:
		return name
	}
	if absolute, err := filepath.Abs(path); err == nil && path != "" {
		path = absolute
	}
	return form + path
}

// wrap encrypts with the public key, without the TPM.
func (c *chip) wrap(message []byte) ([]byte, error) { return tpmkey.Encrypt(c.file, message) }

// unwrap decrypts with the TPM's key.
func (c *chip) unwrap(wrapped []byte) ([]byte, error) {
	c.mu.Lock()
	key := c.key
	c.mu.Unlock()
	begin := time.Now()
	plain, err := key.Decrypt(nil, wrapped, nil)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.slowest = max(c.slowest, time.Since(begin))
	return plain, err
}

// took is how long the slowest unwrapping took so far, with the time that others
// had the TPM.
func (c *chip) took() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
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
