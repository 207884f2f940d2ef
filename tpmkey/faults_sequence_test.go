package tpmkey_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"errors"
	"fmt"
	"testing"
	"time"

	"maclef/blob"
	"maclef/internal/tpmtest"
	"maclef/tpmkey"
)

// A faultKey is a key file and the secrets that a program has for it.
type faultKey struct {
	name     string
	file     *blob.Key
	srk, key tpmkey.Secret
	wrong    error // what one of these secrets is found to be, nil if they are right

	plain, cipher [2][]byte // for decrypt and again
}

// faultKeys are the kinds of keys that each fault is tried with.
func faultKeys(t *testing.T) []*faultKey {
	t.Helper()
	faux := tpmkey.Password([]byte("faux"))
	keys := []*faultKey{
		{name: "plain", file: parseFixture(t, "maclef"), srk: tutorialSRK()},
		{name: "secret", file: parseFixture(t, "auth"), srk: tutorialSRK(), key: motdepasse()},
		{name: "wrong", file: parseFixture(t, "auth"), srk: tutorialSRK(), key: faux, wrong: tpmkey.ErrWrongKeySecret},
		{name: "wrong SRK", file: parseFixture(t, "maclef"), srk: faux, wrong: tpmkey.ErrWrongSRKSecret},
	}
	for _, k := range keys {
		k.plain = [2][]byte{[]byte("bonjour"), []byte("au revoir, et merci")}
		for i, plain := range k.plain {
			var err error
			if k.cipher[i], err = rsa.EncryptPKCS1v15(rand.Reader, k.file.RSAPublicKey(), plain); err != nil {
				t.Fatal(err)
			}
		}
	}
	return keys
}

// A step is what a program does with a key, one after the other. Later steps are
// done whatever became of earlier ones.
type step string

const (
	stepOpen    step = "open"
	stepLoad    step = "load"
	stepSign    step = "sign"
	stepDecrypt step = "decrypt"
	stepAgain   step = "decrypt again"
	stepClose   step = "close"
)

// bounded reports whether a step can be given a deadline.
func (s step) bounded() bool { return s == stepSign || s == stepDecrypt || s == stepAgain }

// opDeadline is what a bounded step is given that meets a slow or silent TPM.
const opDeadline = time.Second

// A stepResult is what came of a step.
type stepResult struct {
	step    step
	first   int   // index of its first command
	err     error // what the program was told
	wrong   error // what is wrong with a result that came without an error
	took    time.Duration
	skipped bool // there was nothing to do it with
}

// A sequence runs the steps.
type sequence struct {
	key      *faultKey
	proxy    *tpmtest.Proxy
	deadline step // which one has a deadline
	results  []stepResult

	tpm    *tpmkey.TPM
	loaded *tpmkey.Key
}

// do runs one step; f returns the error and what is wrong with the result.
func (s *sequence) do(name step, f func() (err, wrong error)) {
	r := stepResult{step: name, first: s.proxy.Count()}
	start := time.Now()
	switch {
	case name != stepOpen && s.tpm == nil, name.bounded() && s.loaded == nil:
		r.skipped = true
	default:
		r.err, r.wrong = f()
	}
	r.took = time.Since(start)
	s.results = append(s.results, r)
}

// run runs all steps. A panic becomes what is wrong with the last one.
func (s *sequence) run() {
	defer func() {
		if p := recover(); p != nil {
			s.results = append(s.results, stepResult{step: "panic", wrong: fmt.Errorf("panic: %v", p)})
		}
	}()
	s.do(stepOpen, func() (err, _ error) {
		s.tpm, err = openFaulty(s.proxy.Name)
		return err, nil
	})
	s.do(stepLoad, func() (err, _ error) {
		s.loaded, err = s.tpm.Load(s.key.file, &tpmkey.LoadOptions{Name: "maclef", SRK: s.key.srk, Key: s.key.key})
		return err, nil
	})
	s.do(stepSign, s.sign)
	s.do(stepDecrypt, func() (err, wrong error) { return s.decrypt(stepDecrypt, 0) })
	s.do(stepAgain, func() (err, wrong error) { return s.decrypt(stepAgain, 1) })
	s.do(stepClose, func() (err, _ error) {
		if s.loaded != nil {
			err = s.loaded.Close()
		}
		return errors.Join(err, s.tpm.Close()), nil
	})
}

// within returns the key, with a deadline where the step has one and the library
// knows deadlines.
func (s *sequence) within(name step) (*tpmkey.Key, context.CancelFunc) {
	k, ok := any(s.loaded).(interface {
		WithContext(context.Context) *tpmkey.Key
	})
	if name != s.deadline || !ok {
		return s.loaded, func() {}
	}
	ctx, cancel := context.WithTimeout(context.Background(), opDeadline)
	return k.WithContext(ctx), cancel
}

func (s *sequence) sign() (err, wrong error) {
	digest := sha256.Sum256([]byte("fox"))
	k, cancel := s.within(stepSign)
	defer cancel()
	sig, err := k.Sign(nil, digest[:], crypto.SHA256)
	if err == nil {
		wrong = rsa.VerifyPKCS1v15(s.key.file.RSAPublicKey(), crypto.SHA256, digest[:], sig)
	}
	return err, wrong
}

func (s *sequence) decrypt(name step, i int) (err, wrong error) {
	k, cancel := s.within(name)
	defer cancel()
	plain, err := k.Decrypt(nil, s.key.cipher[i], nil)
	if err == nil && !bytes.Equal(plain, s.key.plain[i]) {
		wrong = fmt.Errorf("the plaintext is %q", plain)
	}
	return err, wrong
}

// openFaulty opens a TPM, with a deadline once the library has one.
func openFaulty(name string) (*tpmkey.TPM, error) { return tpmkey.Open(name) }
