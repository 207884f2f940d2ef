//go:build linux

package main

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"errors"
	mathrand "math/rand/v2"
	"sync/atomic"
	"time"

	"maclef/tpmkey"
)

// An operation is one use of a key that takes one TPM command.
type operation struct {
	name    string
	use     func(*tpmkey.Key) ([]byte, error)
	command func(handle uint32) []byte // what is sent for it, for a loaded key without a secret

	// want is the right result, known beforehand, so that to check it costs nothing. Where
	// it is another one each time, verify checks the first one; the library checks all.
	want   []byte
	verify func(got []byte) error

	plain, secret keyFile // one key without a secret and with one
	how           []usage // what is measured
}

// A usage is a key that so many goroutines use at once.
type usage struct {
	file       keyFile
	goroutines int
}

// fromEach adds usages by so many goroutines each.
func (op *operation) fromEach(file keyFile, goroutines ...int) {
	for _, n := range goroutines {
		op.how = append(op.how, usage{file, n})
	}
}

// errWrongResult is what no error must ever hide.
var errWrongResult = errors.New("wrong result")

// once does the operation and checks it as far as that costs nothing.
func (op *operation) once(k *tpmkey.Key) error {
	got, err := op.use(k)
	if err == nil && op.want != nil && !bytes.Equal(got, op.want) {
		err = errWrongResult
	}
	return err
}

// warmUp does the operation and checks it.
func (op *operation) warmUp(k *tpmkey.Key) error {
	got, err := op.use(k)
	switch {
	case err != nil:
		return err
	case op.verify != nil:
		return op.verify(got)
	case !bytes.Equal(got, op.want):
		return errWrongResult
	}
	return nil
}

// repeat does the operation from so many goroutines at once for a while; the
// last ones that were begun are counted and timed, too. pick chooses the key.
func (op *operation) repeat(pick func() *tpmkey.Key, goroutines int, slice time.Duration) (pace, error) {
	var (
		group  crew
		done   atomic.Int64
		failed atomic.Value
		start  = time.Now()
	)
	for range goroutines {
		group.run(func() {
			for time.Since(start) < slice && failed.Load() == nil {
				if err := op.once(pick()); err != nil {
					failed.CompareAndSwap(nil, []error{err})
					return
				}
				done.Add(1)
			}
		})
	}
	group.Wait()
	p := pace{done: int(done.Load()), took: time.Since(start)}
	if errs, ok := failed.Load().([]error); ok {
		return p, errs[0]
	}
	return p, nil
}

// signAndVerify signs a digest that nobody has signed before.
func signAndVerify(k *tpmkey.Key) error {
	digest := sha256.Sum256([]byte(rand.Text()))
	if public, ok := k.Public().(*ecdsa.PublicKey); ok {
		sig, err := k.Sign(nil, digest[:], crypto.SHA256)
		if err == nil && !ecdsa.VerifyASN1(public, digest[:], sig) {
			err = errWrongResult
		}
		return err
	}
	public := k.Public().(*rsa.PublicKey)
	if k.File().TSS2 != nil && mathrand.IntN(2) == 0 {
		_, opts := signing(pss)
		sig, err := k.Sign(nil, digest[:], opts)
		if err == nil && rsa.VerifyPSS(public, crypto.SHA256, digest[:], sig, opts.(*rsa.PSSOptions)) != nil {
			err = errWrongResult
		}
		return err
	}
	sig, err := k.Sign(nil, digest[:], crypto.SHA256)
	if err == nil && rsa.VerifyPKCS1v15(public, crypto.SHA256, digest[:], sig) != nil {
		err = errWrongResult
	}
	return err
}

// useAll uses a key in every way that its algorithm has, and checks what comes out.
func useAll(k *tpmkey.Key) error {
	if err := signAndVerify(k); err != nil {
		return err
	}
	if public, ok := k.Public().(*ecdsa.PublicKey); ok {
		return agree(k, public)
	}
	message := []byte(rand.Text())
	ciphertext, err := rsa.EncryptPKCS1v15(rand.Reader, k.Public().(*rsa.PublicKey), message)
	if err != nil {
		return err
	}
	plain, err := k.Decrypt(nil, ciphertext, nil)
	if err == nil && !bytes.Equal(plain, message) {
		err = errWrongResult
	}
	return err
}

// agree agrees on a secret with a new key.
func agree(k *tpmkey.Key, public *ecdsa.PublicKey) error {
	own, err := public.ECDH()
	if err != nil {
		return err
	}
	other, err := own.Curve().GenerateKey(rand.Reader)
	if err != nil {
		return err
	}
	want, err := other.ECDH(own)
	if err != nil {
		return err
	}
	got, err := k.ECDH(other.PublicKey())
	if err == nil && !bytes.Equal(got, want) {
		err = errWrongResult
	}
	return err
}
