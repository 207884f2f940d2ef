//go:build linux

package main

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"time"

	"maclef/tpmkey"
)

// mostKilled visitors there are before the TPM is tidied up: what they leave must
// not fill it.
const mostKilled = 3

// visitor has other processes come and go: each opens the TPM, loads two keys,
// signs, decrypts, and closes; one of three is killed on the way.
func (s *soak) visitor() {
	for s.wait(mathrand.N(2 * time.Second)) {
		a, b := mathrand.IntN(len(s.files)), mathrand.IntN(len(s.files))
		visit := &task{Role: "visit", TPM: s.tpm.name(), Keys: []keyFile{s.files[a], s.files[b]}}
		if err := s.tidyUp(); err != nil {
			s.tally.count(fmt.Errorf("free what visitors left: %w", err))
		}
		kill := mathrand.IntN(3) == 0 && s.killedSince.Load() < mostKilled
		if err := s.oneVisit(visit, kill); err != nil {
			s.tally.count(fmt.Errorf("visitor: %w", err))
		}
	}
}

// tidyUp frees what visitors that were killed have left, under the living ones.
func (s *soak) tidyUp() error {
	killed := s.killedSince.Load()
	if killed < mostKilled {
		return nil
	}
	err := whenThere(s.freeLeftovers)
	if err == nil {
		s.killedSince.CompareAndSwap(killed, 0)
	}
	return err
}

// visitLimit is longer than any visit.
const visitLimit = 2 * time.Minute

func (s *soak) oneVisit(visit *task, kill bool) error {
	c, err := startChild(visit)
	if err != nil {
		return err
	}
	if err := c.begin(); err != nil {
		return err
	}
	if kill {
		s.wait(mathrand.N(150 * time.Millisecond))
		s.killedSince.Add(1) // before, because the TPM may be restarted right after
		if c.kill(); !c.cmd.ProcessState.Exited() {
			s.killed.Add(1)
			return nil
		}
		s.visited.Add(1) // it was faster
		return nil
	}
	hung := time.AfterFunc(visitLimit, func() { c.cmd.Process.Kill() })
	defer hung.Stop()
	if err := c.ready(); err != nil {
		return err
	}
	r, err := c.report()
	if err != nil {
		return err
	}
	s.visited.Add(1)
	for text, n := range r.Failed {
		s.tally.add("visitor: "+text, n)
	}
	return nil
}

// visit is the other process.
func (t *task) visit(begin func() error, r *report) error {
	if err := begin(); err != nil {
		return err
	}
	err := whenThere(func() error {
		return useKeys(t.TPM, t.Keys, func(keys []*tpmkey.Key) error {
			for range 1 + mathrand.IntN(4) {
				for _, k := range keys {
					if err := signAndDecrypt(k); err != nil {
						r.fail(err)
					}
				}
			}
			return nil
		})
	})
	if err != nil {
		r.fail(err)
	}
	return nil
}

// whenThere tries again where there is no TPM: to open one while it is restarted
// is not to be expected to work.
func whenThere(try func() error) error {
	for deadline := time.Now().Add(5 * time.Second); ; {
		err := try()
		if !errors.Is(err, tpmkey.ErrNoTPM) || time.Now().After(deadline) {
			return err
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// signAndDecrypt uses a key in both ways, and checks what comes out.
func signAndDecrypt(k *tpmkey.Key) error {
	public := k.Public().(*rsa.PublicKey)
	digest := sha256.Sum256([]byte(rand.Text()))
	signature, err := k.Sign(nil, digest[:], crypto.SHA256)
	if err != nil {
		return err
	}
	if rsa.VerifyPKCS1v15(public, crypto.SHA256, digest[:], signature) != nil {
		return errWrongResult
	}
	message := []byte(rand.Text())
	ciphertext, err := rsa.EncryptPKCS1v15(rand.Reader, public, message)
	if err != nil {
		return err
	}
	plain, err := k.Decrypt(nil, ciphertext, nil)
	if err == nil && !bytes.Equal(plain, message) {
		err = errWrongResult
	}
	return err
}
