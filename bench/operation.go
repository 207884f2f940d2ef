//go:build linux

package main

import (
	"bytes"
	"errors"
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
