//go:build linux

package bench

import (
	"bytes"
	"crypto"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"net"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"

	"maclef/blob"
	"maclef/internal/tpm12"
	"maclef/internal/tpm20"
	"maclef/internal/tpmtest"
	"maclef/tpmkey"
)

// An operation is one use of a key that takes one TPM command.
type operation struct {
	name          string
	plain, secret keyFile
	use           func(*tpmkey.Key) error
	input         []byte // of the TPM command
}

// A kind is the key and the algorithms of an operation.
type kind struct {
	key       string
	alg, hash tpm2.TPMAlgID // of a signature
}

var kinds = map[string]kind{
	"sign-pkcs1":  {"rsa", tpm2.TPMAlgRSASSA, tpm2.TPMAlgSHA256},
	"sign-pss":    {"rsa", tpm2.TPMAlgRSAPSS, tpm2.TPMAlgSHA256},
	"sign-p256":   {"p256", tpm2.TPMAlgECDSA, tpm2.TPMAlgSHA256},
	"sign-p384":   {"p384", tpm2.TPMAlgECDSA, tpm2.TPMAlgSHA384},
	"decrypt-rsa": {key: "rsa"},
	"agree-p256":  {key: "p256"},
}

// operation returns the operation with this name on this TPM.
func (c *testTPM) operation(tb testing.TB, name string) *operation {
	key := kinds[name].key
	op, err := newOperation(name, privateKeys()[key].Public())
	check(tb, err)
	op.plain, op.secret = c.plain[key], c.secret[key]
	return op
}

// newOperation returns the operation with this name for a public key.
func newOperation(name string, public crypto.PublicKey) (op *operation, err error) {
	op = &operation{name: name}
	var want []byte
	var use func(k *tpmkey.Key) ([]byte, error)
	switch name {
	case "decrypt-rsa": // PKCS#1 v1.5
		want = []byte("sixteen or more bytes of a secret")
		op.input, err = rsa.EncryptPKCS1v15(rand.Reader, public.(*rsa.PublicKey), want)
		use = func(k *tpmkey.Key) ([]byte, error) { return k.Decrypt(nil, op.input, nil) }
	case "agree-p256": // ECDH with another key
		own, ownErr := public.(*ecdsa.PublicKey).ECDH()
		other, otherErr := ecdh.P256().GenerateKey(rand.Reader)
		if err := errors.Join(ownErr, otherErr); err != nil {
			return nil, err
		}
		op.input = other.PublicKey().Bytes()
		want, err = other.ECDH(own)
		use = func(k *tpmkey.Key) ([]byte, error) { return k.ECDH(other.PublicKey()) }
	default:
		text, opts := []byte("The quick brown fox"), signerOpts(name)
		digest := opts.HashFunc().New()
		digest.Write(text)
		op.input = digest.Sum(nil)
		op.use = func(k *tpmkey.Key) error {
			_, err := k.Sign(nil, op.input, opts) // Sign verifies the signature
			return err
		}
		return op, nil
	}
	op.use = func(k *tpmkey.Key) error {
		got, err := use(k)
		if err == nil && !bytes.Equal(got, want) {
			err = errWrongResult
		}
		return err
	}
	return op, err
}

func signerOpts(name string) crypto.SignerOpts {
	switch name {
	case "sign-p384":
		return crypto.SHA384
	case "sign-pss":
		return &rsa.PSSOptions{Hash: crypto.SHA256, SaltLength: rsa.PSSSaltLengthEqualsHash}
	}
	return crypto.SHA256
}

// errWrongResult says that an operation succeeded with a wrong result.
var errWrongResult = errors.New("wrong result")

// repeat calls use from several goroutines for some time. It also counts and times the
// calls that are running when the time is over.
func repeat(goroutines int, sampleTime time.Duration, use func() error) (sample, error) {
	var done atomic.Int64
	var before, after runtime.MemStats
	errs := make([]error, goroutines)
	runtime.ReadMemStats(&before)
	start := time.Now()
	inParallel(goroutines, func(i int) {
		for time.Since(start) < sampleTime && errs[i] == nil {
			if errs[i] = use(); errs[i] == nil {
				done.Add(1)
			}
		}
	})
	took := time.Since(start)
	runtime.ReadMemStats(&after)
	return sample{int(done.Load()), took, after.Mallocs - before.Mallocs, after.TotalAlloc - before.TotalAlloc, 0}, errors.Join(errs...)
}

// inParallel runs f in n goroutines and waits for them.
func inParallel(n int, f func(i int)) {
	var group sync.WaitGroup
	group.Add(n)
	for i := range n {
		go func() {
			defer group.Done()
			f(i)
		}()
	}
	group.Wait()
}

// bare measures the TPM alone. It sends the command of an operation again and again, for
// the key without a secret, and checks only the result code. (An authorized command cannot
// be sent again, because its HMAC covers a nonce of the TPM.)
func (c *testTPM) bare(b *testing.B, op *operation, sampleTime time.Duration) (p sample) {
	b.Helper()
	conn, err := net.Dial("unix", c.socket)
	check(b, err)
	defer conn.Close()
	tap := tpmtest.NewTap(transport.FromReadWriteCloser(conn))
	data, err := os.ReadFile(op.plain.Path)
	check(b, err)
	key, err := blob.Parse(data)
	check(b, err)
	var flush func() error
	switch key := key.(type) {
	case *blob.TPMKey:
		flush, err = do12(tap, key, op)
	case *blob.TSS2:
		flush, err = do20(tap, key, op)
	}
	check(b, err)
	exchanges := tap.Exchanges()
	cmd, rsp := exchanges[len(exchanges)-1].Command, make([]byte, 4096)
	for start := time.Now(); p.took < sampleTime; p.took = time.Since(start) {
		if _, err := conn.Write(cmd); err != nil {
			b.Fatal(err)
		}
		if n, err := conn.Read(rsp); err != nil || n < 10 || [4]byte(rsp[6:]) != [4]byte{} {
			b.Fatalf("the TPM answers %x: %v", rsp[:n], err)
		}
		p.done++
	}
	check(b, flush())
	return p
}

// do12 loads the key without the library and does the operation once.
func do12(tpm transport.TPM, key *blob.TPMKey, op *operation) (flush func() error, err error) {
	conn := tpm12.New(tpm)
	h, err := conn.LoadKey2(tpm12.SRK, key.Bytes(), new(tpm12.Secret))
	if err != nil {
		return nil, err
	}
	if op.name == "decrypt-rsa" {
		_, err = conn.UnBind(h, op.input, nil)
	} else {
		// The DigestInfo of SHA-256: RFC 8017, section 9.2, note 1.
		info := "\x30\x31\x30\x0d\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x01\x05\x00\x04\x20" + string(op.input)
		_, err = conn.Sign(h, []byte(info), nil)
	}
	return func() error { return conn.FlushSpecific(h) }, err
}

// do20 is do12 for a TPM 2.0.
func do20(tpm transport.TPM, key *blob.TSS2, op *operation) (flush func() error, err error) {
	conn := tpm20.New(tpm)
	template := tpm2.ECCSRKTemplate
	template.Unique = tpm2.NewTPMUPublicID(tpm2.TPMAlgECC, new(tpm2.TPMSECCPoint))
	parent, err := conn.CreatePrimary(tpm2.TPMRHOwner, nil, template)
	if err != nil {
		return nil, err
	}
	o, err := conn.Load(parent, nil, key.Private, key.Public)
	if err := errors.Join(err, conn.Flush(parent.Handle)); err != nil {
		return nil, err
	}
	switch op.name {
	case "decrypt-rsa":
		_, err = conn.RSADecrypt(o, nil, op.input, tpm2.TPMTRSADecrypt{Scheme: tpm2.TPMAlgRSAES})
	case "agree-p256":
		_, err = conn.ECDHZGen(o, nil, op.input)
	default:
		k := kinds[op.name]
		details := tpm2.NewTPMUSigScheme(k.alg, &tpm2.TPMSSchemeHash{HashAlg: k.hash})
		_, err = conn.Sign(o, nil, tpm2.TPMTSigScheme{Scheme: k.alg, Details: details}, op.input, nil)
	}
	return func() error { return conn.Flush(o.Handle) }, err
}
