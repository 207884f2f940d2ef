package main

import (
	"bytes"
	"cmp"
	"context"
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

// A chip is an open TPM with the loaded key. If the TPM loses the key or
// restarts, package tpmkey loads it again.
type chip struct {
	env  *cli.Env
	o    *options
	file blob.Key

	mu      sync.Mutex // guards the fields below
	tpm     *tpmkey.TPM
	key     *tpmkey.Key
	closed  bool
	slowest time.Duration // longest unwrap so far
}

func newChip(env *cli.Env, o *options, file blob.Key) *chip {
	o.tpm.Name = absoluteTPM(cmp.Or(o.tpm.Name, os.Getenv(transport.EnvName)))
	return &chip{env: env, o: o, file: file}
}

// open opens the TPM and loads the key. It asks for the key's secret now, because a background
// process cannot ask, and because asking must not count as time of the TPM. It holds no lock
// meanwhile, so a signal can close the TPM.
func (c *chip) open() error {
	tpm, err := c.env.OpenTPM(c.o.tpm)
	if err != nil {
		return err
	}
	if err := c.setTPM(tpm); err != nil {
		return err
	}
	key, err := c.o.keys.Load(tpm, c.file)
	if err != nil {
		return err
	}
	c.mu.Lock()
	c.key = key
	c.mu.Unlock()
	if key.File().NeedsSecret() { // other than the file itself where -policy says the steps
		if err := key.CheckSecret(context.Background()); err != nil {
			return fmt.Errorf("load %s: %w", *c.o.key, err)
		}
	}
	return nil
}

// setTPM stores the TPM, which close closes.
func (c *chip) setTPM(tpm *tpmkey.TPM) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		tpm.Close()
		return tpmkey.ErrClosed
	}
	c.tpm = tpm
	return nil
}

// close closes the TPM, which unloads the key.
func (c *chip) close() {
	c.mu.Lock()
	c.closed = true
	tpm := c.tpm
	c.mu.Unlock()
	if tpm != nil {
		tpm.Close()
	}
}

// absoluteTPM makes a path in the name of a TPM absolute, because mount changes the working
// directory.
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

// wrap encrypts with the public key. It needs no TPM.
func (c *chip) wrap(message []byte) ([]byte, error) { return tpmkey.Encrypt(c.file, message) }

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

// slowestUnwrap returns the longest time of an unwrap so far. It includes waiting for other
// programs.
func (c *chip) slowestUnwrap() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.slowest
}

// roundTrip checks that the TPM decrypts what the public key encrypts.
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

// tryFileKey checks that the TPM unwraps the key of an existing file.
func (c *chip) tryFileKey(path string, wrapped []byte) error {
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

// errBadFileKey says that a wrapped key does not contain a file key.
var errBadFileKey = errors.New("the key in it is damaged")
