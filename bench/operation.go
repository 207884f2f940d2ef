//go:build linux

package main

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"sync/atomic"
	"time"

	"maclef/internal/tpm12"
	"maclef/tpmkey"
)

// An operation is one use of a key that takes one TPM command. The right result
// is known beforehand, so that checking it costs nothing.
type operation struct {
	name    string
	ordinal uint32
	data    []byte // what the command carries
	use     func(*tpmkey.Key) ([]byte, error)
	want    []byte
}

// sha256Prefix is the DigestInfo of SHA-256. RFC 8017, section 9.2, note 1.
var sha256Prefix = []byte{0x30, 0x31, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01, 0x05, 0x00, 0x04, 0x20}

// signedText is what all signatures are of.
const signedText = "The quick brown fox"

// newSign is TPM_Sign for a SHA-256 digest. TPM Main Part 3, section 13.5.
func newSign(priv *rsa.PrivateKey) (*operation, error) {
	digest := sha256.Sum256([]byte(signedText))
	want, err := rsa.SignPKCS1v15(nil, priv, crypto.SHA256, digest[:])
	return &operation{
		name: "sign", ordinal: 0x3c, data: append(bytes.Clone(sha256Prefix), digest[:]...), want: want,
		use: func(k *tpmkey.Key) ([]byte, error) { return k.Sign(nil, digest[:], crypto.SHA256) },
	}, err
}

// newDecrypt is TPM_UnBind of a session key. TPM Main Part 3, section 10.3.
func newDecrypt(priv *rsa.PrivateKey) (*operation, error) {
	want := []byte("sixteen or more bytes of a secret")
	data, err := rsa.EncryptPKCS1v15(rand.Reader, &priv.PublicKey, want)
	return &operation{
		name: "decrypt", ordinal: 0x1e, data: data, want: want,
		use: func(k *tpmkey.Key) ([]byte, error) { return k.Decrypt(nil, data, nil) },
	}, err
}

// command builds the command for a loaded key without a secret.
func (op *operation) command(key tpm12.Handle) []byte {
	cmd := []byte{0, 0xC1} // TPM_TAG_RQU_COMMAND
	cmd = binary.BigEndian.AppendUint32(cmd, uint32(18+len(op.data)))
	cmd = binary.BigEndian.AppendUint32(cmd, op.ordinal)
	cmd = binary.BigEndian.AppendUint32(cmd, uint32(key))
	cmd = binary.BigEndian.AppendUint32(cmd, uint32(len(op.data)))
	return append(cmd, op.data...)
}

// errWrongResult is what no error must ever hide.
var errWrongResult = errors.New("wrong result")

// once does the operation and checks it.
func (op *operation) once(k *tpmkey.Key) error {
	got, err := op.use(k)
	if err == nil && !bytes.Equal(got, op.want) {
		err = errWrongResult
	}
	return err
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
