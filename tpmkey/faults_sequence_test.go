package tpmkey_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/sha256"
	"errors"
	"fmt"
	"time"

	"maclef/blob"
	"maclef/internal/tpmtest"
	"maclef/tpmkey"
)

// A step is what a program does with a key, one after the other. Later steps are
// done whatever became of earlier ones.
type step string

const (
	stepOpen        step = "open"
	stepCreate      step = "create"
	stepSeal        step = "seal"
	stepLoad        step = "load"
	stepSign        step = "sign"
	stepSignAgain   step = "sign again"
	stepCheck       step = "check"
	stepDecrypt     step = "decrypt"
	stepAgain       step = "decrypt again"
	stepAgree       step = "agree"
	stepAgreeAgain  step = "agree again"
	stepUnseal      step = "unseal"
	stepUnsealAgain step = "unseal again"
	stepClose       step = "close"
)

// bounded reports whether a step can be given a deadline.
func (s step) bounded() bool {
	switch s {
	case stepCheck, stepSign, stepSignAgain, stepDecrypt, stepAgain, stepAgree, stepAgreeAgain:
		return true
	}
	return false
}

// usesKey reports whether a step takes the key's secret.
func (s step) usesKey() bool { return s.bounded() || s == stepUnseal || s == stepUnsealAgain }

// first reports whether there are no later steps where a step fails.
func (s step) first() bool { return s == stepLoad || s.makes() }

// makes reports whether a step makes a file.
func (s step) makes() bool { return s == stepCreate || s == stepSeal }

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
	file   blob.Key // the key's, or a new one
	loaded *tpmkey.Key
}

// do runs one step; f returns the error and what is wrong with the result.
func (s *sequence) do(name step, f func() (err, wrong error)) {
	r := stepResult{step: name, first: s.proxy.Count()}
	start := time.Now()
	switch {
	case name != stepOpen && s.tpm == nil, name.bounded() && s.loaded == nil, (name == stepLoad || name == stepUnseal) && s.file == nil:
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
	s.file = s.key.file
	for _, name := range s.key.steps {
		s.do(name, func() (err, wrong error) { return s.act(name) })
	}
}

func (s *sequence) act(name step) (err, wrong error) {
	switch name {
	case stepOpen:
		s.tpm, err = tpmkey.Open(context.Background(), s.proxy.Name)
	case stepCreate:
		s.file, err = s.tpm.Create(context.Background(), &tpmkey.CreateOptions{Type: tpmkey.P256, Auth: s.key.key})
	case stepSeal:
		s.file, err = s.tpm.Seal(context.Background(), s.key.sealed, &tpmkey.SealOptions{ParentAuth: s.key.srk, Auth: s.key.key})
	case stepLoad:
		s.loaded, err = s.tpm.Load(context.Background(), s.file, &tpmkey.LoadOptions{Name: "maclef", ParentAuth: s.key.srk, Auth: s.key.key})
	case stepSign, stepSignAgain:
		return s.sign(name)
	case stepCheck:
		ctx := context.Background()
		if name == s.deadline {
			within, cancel := context.WithTimeout(ctx, opDeadline)
			defer cancel()
			ctx = within
		}
		err = s.loaded.CheckSecret(ctx)
	case stepDecrypt:
		return s.decrypt(name, 0)
	case stepAgain:
		return s.decrypt(name, 1)
	case stepAgree, stepAgreeAgain:
		return s.agree(name)
	case stepUnseal, stepUnsealAgain:
		return s.unseal()
	case stepClose:
		if s.loaded != nil {
			err = s.loaded.Close()
		}
		err = errors.Join(err, s.tpm.Close())
	}
	return err, nil
}

// within returns the key, with a deadline where the step has one.
func (s *sequence) within(name step) (*tpmkey.Key, context.CancelFunc) {
	if name != s.deadline {
		return s.loaded, func() {}
	}
	ctx, cancel := context.WithTimeout(context.Background(), opDeadline)
	return s.loaded.WithContext(ctx), cancel
}

func (s *sequence) sign(name step) (err, wrong error) {
	message := []byte("fox")
	k, cancel := s.within(name)
	defer cancel()
	if s.key.restricted {
		message = bytes.Repeat(message, 700) // a sequence of three commands hashes it
	}
	digest := sha256.Sum256(message)
	sign := func() ([]byte, error) { return k.Sign(nil, digest[:], crypto.SHA256) }
	if s.key.restricted {
		sign = func() ([]byte, error) { return k.SignMessage(nil, message, crypto.SHA256) }
	}
	sig, err := sign()
	if err == nil {
		wrong = verifyPublic(s.file.PublicKey(), digest[:], sig)
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

// verifyPublic checks a signature by the public key of a file.
func verifyPublic(public crypto.PublicKey, digest, sig []byte) error {
	if public, ok := public.(*ecdsa.PublicKey); ok {
		if !ecdsa.VerifyASN1(public, digest, sig) {
			return errors.New("the ECDSA signature is wrong")
		}
		return nil
	}
	return rsa.VerifyPKCS1v15(public.(*rsa.PublicKey), crypto.SHA256, digest, sig)
}

func (s *sequence) agree(name step) (err, wrong error) {
	k, cancel := s.within(name)
	defer cancel()
	x, err := k.ECDH(s.key.remote.PublicKey())
	if err == nil && !bytes.Equal(x, s.key.agreed) {
		wrong = fmt.Errorf("they agreed on %x", x)
	}
	return err, wrong
}

func (s *sequence) unseal() (err, wrong error) {
	data, err := s.tpm.Unseal(context.Background(), s.file, &tpmkey.LoadOptions{Name: "sealed", ParentAuth: s.key.srk, Auth: s.key.key})
	if err == nil && !bytes.Equal(data, s.key.sealed) {
		wrong = fmt.Errorf("the data is %q", data)
	}
	return err, wrong
}
