//go:build linux

package main

import (
	"crypto"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/google/go-tpm/tpm2"

	"maclef/tpmkey"
)

// A pace is how often something was done in which time.
type pace struct {
	done int
	took time.Duration
}

func (p pace) perSecond() float64 { return float64(p.done) / p.took.Seconds() }

// rates has what was measured, round by round, for each of several things.
type rates [][]float64

// plus is both, one after the other.
func (p pace) plus(q pace) pace { return pace{p.done + q.done, p.took + q.took} }

// inTurns measures several things, a round being so many short turns of each, so
// that what else goes on in the machine meets all of them: A B B A A B B A.
func inTurns(rounds, turns int, things ...func() (pace, error)) (rates, error) {
	r := make(rates, len(things))
	for range rounds {
		sums := make([]pace, len(things))
		for turn := range turns {
			for i := range things {
				if turn%2 == 1 {
					i = len(things) - 1 - i
				}
				p, err := things[i]()
				if err != nil {
					return nil, err
				}
				sums[i] = sums[i].plus(p)
			}
		}
		for i, sum := range sums {
			r[i] = append(r[i], sum.perSecond())
		}
	}
	return r, nil
}

// median is that of one thing's rates.
func (r rates) median(thing int) float64 { return median(r[thing]) }

// ratios are those of two things, round by round.
func (r rates) ratios(thing, to int) []float64 {
	ratios := make([]float64, len(r[thing]))
	for i := range ratios {
		ratios[i] = r[thing][i] / r[to][i]
	}
	return ratios
}

func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	middle := len(sorted) / 2
	if len(sorted)%2 == 1 {
		return sorted[middle]
	}
	return (sorted[middle-1] + sorted[middle]) / 2
}

// spread is from where to where values go.
func spread(format string, values []float64) string {
	return fmt.Sprintf(format+" – "+format, slices.Min(values), slices.Max(values))
}

// A crew is goroutines that are waited for together.
type crew struct{ sync.WaitGroup }

// run runs f in a new one.
func (c *crew) run(f func()) {
	c.Add(1)
	go func() {
		defer c.Done()
		f()
	}()
}

// signedText is what all signatures are of.
const signedText = "The quick brown fox"

// Ways to sign, by the names that other processes are told.
const (
	pkcs1 = "pkcs1"
	pss   = "pss"
	p256  = "p256"
	p384  = "p384"
)

// signing is the digest and the options of a way to sign.
func signing(way string) ([]byte, crypto.SignerOpts) {
	digest := sha256.Sum256([]byte(signedText))
	switch way {
	case p384:
		longer := sha512.Sum384([]byte(signedText))
		return longer[:], crypto.SHA384
	case pss:
		return digest[:], &rsa.PSSOptions{Hash: crypto.SHA256, SaltLength: rsa.PSSSaltLengthEqualsHash}
	}
	return digest[:], crypto.SHA256
}

// signWith signs in one of the ways.
func signWith(way string) func(*tpmkey.Key) ([]byte, error) {
	digest, opts := signing(way)
	return func(k *tpmkey.Key) ([]byte, error) { return k.Sign(nil, digest, opts) }
}

// sha256Prefix is the DigestInfo of SHA-256. RFC 8017, section 9.2, note 1.
var sha256Prefix = []byte{0x30, 0x31, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01, 0x05, 0x00, 0x04, 0x20}

// newSign signs with a private key that the TPM has, as do the others.
func (gen12) newSign(priv *rsa.PrivateKey) (*operation, error) {
	digest, opts := signing(pkcs1)
	want, err := rsa.SignPKCS1v15(nil, priv, opts.HashFunc(), digest)
	return &operation{
		name: "sign", want: want, use: signWith(pkcs1),
		command: sign12(append(sha256Prefix[:len(sha256Prefix):len(sha256Prefix)], digest...)),
	}, err
}

func (gen20) newSignRSA(priv *rsa.PrivateKey) (*operation, error) {
	digest, opts := signing(pkcs1)
	want, err := rsa.SignPKCS1v15(nil, priv, opts.HashFunc(), digest)
	return &operation{
		name: "sign, RSA PKCS#1", want: want, use: signWith(pkcs1),
		command: sign20(tpm2.TPMAlgRSASSA, tpm2.TPMAlgSHA256, digest),
	}, err
}

func (gen20) newSignPSS(priv *rsa.PrivateKey) *operation {
	digest, opts := signing(pss)
	return &operation{
		name: "sign, RSA-PSS", use: signWith(pss),
		verify: func(sig []byte) error {
			return rsa.VerifyPSS(&priv.PublicKey, opts.HashFunc(), digest, sig, opts.(*rsa.PSSOptions))
		},
		command: sign20(tpm2.TPMAlgRSAPSS, tpm2.TPMAlgSHA256, digest),
	}
}

func (gen20) newSignECDSA(priv *ecdsa.PrivateKey, way string) *operation {
	name, hash := "sign, ECDSA P-256", tpm2.TPMAlgSHA256
	if way == p384 {
		name, hash = "sign, ECDSA P-384", tpm2.TPMAlgSHA384
	}
	digest, _ := signing(way)
	return &operation{
		name: name, use: signWith(way),
		verify: func(sig []byte) error {
			if !ecdsa.VerifyASN1(&priv.PublicKey, digest, sig) {
				return errWrongResult
			}
			return nil
		},
		command: sign20(tpm2.TPMAlgECDSA, hash, digest),
	}
}

// newDecrypt decrypts a session key by PKCS#1 v1.5.
func newDecrypt(priv *rsa.PrivateKey, command func(ciphertext []byte) func(uint32) []byte) (*operation, error) {
	want := []byte("sixteen or more bytes of a secret")
	data, err := rsa.EncryptPKCS1v15(rand.Reader, &priv.PublicKey, want)
	return &operation{
		name: "decrypt, RSA", want: want, command: command(data),
		use: func(k *tpmkey.Key) ([]byte, error) { return k.Decrypt(nil, data, nil) },
	}, err
}

// newAgree agrees with another key on a secret.
func newAgree(priv *ecdsa.PrivateKey) (*operation, error) {
	own, ownErr := priv.ECDH()
	other, otherErr := ecdh.P256().GenerateKey(rand.Reader)
	if err := errors.Join(ownErr, otherErr); err != nil {
		return nil, err
	}
	want, err := other.ECDH(own.PublicKey())
	return &operation{
		name: "ECDH P-256", want: want, command: agree20(other.PublicKey().Bytes()),
		use: func(k *tpmkey.Key) ([]byte, error) { return k.ECDH(other.PublicKey()) },
	}, err
}
