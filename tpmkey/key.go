package tpmkey

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"net"

	"maclef/blob"
)

// A Key is a private key in a TPM: a crypto.Signer and crypto.Decrypter. It is
// safe for concurrent use. Close it to free its place in the TPM.
//
// A TPM has few places. A key that was not used for the longest time makes room
// for another one, and comes back when it is used; so there can be more keys than
// places. One that the TPM lost, because it was restarted or somebody flushed it,
// is loaded again, too.
type Key struct {
	*keyState
	ctx   context.Context
	alive func() error // why nobody waits for the operation any more; may be nil
}

var (
	_ crypto.Signer    = (*Key)(nil)
	_ crypto.Decrypter = (*Key)(nil)
)

// String names the key, for logs; it shows no secret.
func (k *Key) String() string {
	return fmt.Sprintf("TPM key (%s)", algorithmOf(k.public))
}

// Format hides everything but String's text from package fmt.
func (k *Key) Format(f fmt.State, _ rune) { io.WriteString(f, k.String()) }

// algorithmOf names an algorithm and the size of its keys, such as RSA 2048.
func algorithmOf(public crypto.PublicKey) string {
	switch p := public.(type) {
	case *rsa.PublicKey:
		return fmt.Sprintf("RSA %d", p.N.BitLen())
	case *ecdsa.PublicKey:
		return "ECC " + p.Curve.Params().Name
	}
	return "sealed data"
}

// Public returns the key's public half, an *rsa.PublicKey or *ecdsa.PublicKey.
func (k *Key) Public() crypto.PublicKey { return k.public }

// File returns what the key file said. The caller must not change it.
func (k *Key) File() *blob.Key { return k.file }

// Sign signs digest, which must be a digest of opts.HashFunc(). rand is ignored.
//
// An RSA key gives a signature as long as itself: PKCS#1 v1.5 where opts is a
// crypto.Hash (with crypto.Hash(0), digest is signed as it is, with no DigestInfo
// around it), RSA-PSS with exactly the salt length asked for where it is an
// *rsa.PSSOptions, which TPM 1.2 has not. An ECC key gives an ECDSA signature in
// ASN.1, for every hash.
//
// A TPM 1.2 key of the DER scheme signs every hash that crypto/rsa knows; one of the
// SHA1 scheme signs SHA-1 only. A TPM 2.0 key that may decrypt, too, does everything
// on every chip; one that may only sign, or has a scheme of its own, what that and
// the chip allow. Everything else is ErrNotSupported. Every signature was verified
// before it is returned.
//
// Errors: ErrNotSupported, ErrSecretNeeded, ErrWrongKeySecret (a try was spent),
// ErrLockedOut, ErrPolicy, ErrUnloaded, ErrBusy, ErrGone, ErrClosed; one of no kind for a
// digest of the wrong length; those of WithContext and WithConn. TPM Main Part 3,
// section 13.5 (TPM_Sign); TPM 2.0 Library Part 3, sections 20.2 (TPM2_Sign) and 14.3
// (TPM2_RSA_Decrypt).
func (k *Key) Sign(_ io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	s, err := k.abilities.checkSign(k.own(digest), opts)
	if err != nil {
		return nil, fmt.Errorf("sign: %w", err)
	}
	sig, err := k.sign(s)
	return sig, doingError("sign", err)
}

func (k *Key) sign(s *signing) ([]byte, error) {
	w := k.work(func(in loadedKey, secret authData) ([]byte, error) { return in.sign(s, secret) })
	w.verify = s.verify
	return k.tpm.do(w)
}

// own returns a caller's bytes, as a copy where the operation may go on after it has gone.
func (k *Key) own(b []byte) []byte {
	if k.ctx.Done() == nil {
		return b
	}
	return bytes.Clone(b)
}

// work is an operation with the key, for who waits for it.
func (k *Key) work(run func(in loadedKey, secret authData) ([]byte, error)) *work {
	return &work{ctx: k.ctx, alive: k.alive, key: k.keyState, run: run}
}

// Decrypt decrypts a ciphertext as long as the key. With nil opts it uses the
// key's own scheme, PKCS#1 v1.5 for a key of TPM 2.0 without one; otherwise opts are
//
//   - *rsa.PKCS1v15DecryptOptions. With SessionKeyLen n, whatever is wrong with
//     the plaintext gives n bytes of random and no error, as in crypto/rsa.
//     A nil random stands for crypto/rand's. For a TPM 1.2 key with a secret its session
//     ends with it: the next operation opens a new one, or asks again.
//   - *rsa.OAEPOptions: on a TPM 2.0 with any hash and label, on a TPM 1.2 with Hash
//     SHA-1 and Label "TCPA", which it fixes. Encrypt makes such ciphertexts.
//
// A key with a scheme of its own takes no other.
//
// Errors: rsa.ErrDecryption, ErrNotSupported, ErrSecretNeeded, ErrWrongKeySecret
// (a try was spent), ErrLockedOut, ErrPolicy, ErrUnloaded, ErrBusy, ErrGone, ErrClosed; those
// of WithContext and WithConn. TPM Main Part 3, section 10.3 (TPM_UnBind); TPM 2.0
// Library Part 3, section 14.3 (TPM2_RSA_Decrypt).
func (k *Key) Decrypt(random io.Reader, ciphertext []byte, opts crypto.DecrypterOpts) ([]byte, error) {
	d, err := k.abilities.checkDecrypt(k.own(ciphertext), opts)
	if err != nil {
		return nil, fmt.Errorf("decrypt: %w", err)
	}
	var sessionKey []byte
	if d.sessionKeyLen > 0 {
		if random == nil {
			random = rand.Reader
		}
		sessionKey = make([]byte, d.sessionKeyLen)
		if _, err := io.ReadFull(random, sessionKey); err != nil {
			return nil, fmt.Errorf("decrypt: %w", err)
		}
	}
	plain, err := k.tpm.do(k.work(func(in loadedKey, secret authData) ([]byte, error) { return in.decrypt(d, secret) }))
	if sessionKey != nil && (err == nil || errors.Is(err, errDecryption)) {
		return chooseSessionKey(plain, sessionKey, err == nil), nil
	}
	return plain, doingError("decrypt", err)
}

// ECDH agrees on a secret with the owner of another key, whose public half remote is,
// and returns what remote's owner gets from ecdh.PrivateKey.ECDH: the shared point's x
// coordinate, as long as the curve's field. Hash it before use.
//
// Errors: ErrNotSupported for another curve, or a key that is not made for it;
// otherwise those of Sign. TPM 2.0 Library Part 3, section 14.5 (TPM2_ECDH_ZGen).
func (k *Key) ECDH(remote *ecdh.PublicKey) ([]byte, error) {
	point, err := k.abilities.checkAgree(remote)
	if err != nil {
		return nil, fmt.Errorf("agree: %w", err)
	}
	shared, err := k.tpm.do(k.work(func(in loadedKey, secret authData) ([]byte, error) { return in.agree(point, secret) }))
	return shared, doingError("agree", err)
}

// chooseSessionKey returns plain if it is valid and as long as fallback, else
// fallback, and does not let the time it takes tell which.
func chooseSessionKey(plain, fallback []byte, valid bool) []byte {
	padded := make([]byte, len(fallback))
	copy(padded, plain)
	ok := subtle.ConstantTimeEq(int32(len(plain)), int32(len(fallback)))
	if !valid {
		ok = 0
	}
	subtle.ConstantTimeCopy(ok, fallback, padded)
	clear(padded)
	clear(plain)
	return fallback
}

// ErrHungUp: the client for whom the operation was has gone.
var ErrHungUp = errors.New("the client has hung up")

// WithContext returns the same key for operations that somebody waits for no
// longer than ctx: one that waits for its turn is dropped before it reaches the
// TPM, and one that is under way goes on without its caller, whose error wraps the
// context's cause. Of operations with a deadline that cannot all be served in time
// the newest come first. Closing either closes both.
func (k *Key) WithContext(ctx context.Context) *Key {
	return &Key{keyState: k.keyState, ctx: ctx, alive: k.alive}
}

// WithConn is WithContext for an operation that the peer of c waits for, such as
// a TLS client for the handshake's signature: it is dropped as well when the peer
// has hung up, with ErrHungUp. Nothing is read from c. TLSConfig does this by
// itself.
//
// A hang-up is seen on connections that have a file descriptor, themselves or
// under a method NetConn, and on Linux only.
func (k *Key) WithConn(ctx context.Context, c net.Conn) *Key {
	return &Key{keyState: k.keyState, ctx: ctx, alive: func() error {
		if hungUp(c) {
			return ErrHungUp
		}
		return nil
	}}
}

// CheckSign returns why the key of a key file cannot sign digest with opts, nil
// if it can: what Key.Sign would say, but without a TPM, before a secret is
// tried.
func CheckSign(file *blob.Key, digest []byte, opts crypto.SignerOpts) error {
	k, err := abilitiesOf(file)
	if err == nil {
		_, err = k.checkSign(digest, opts)
	}
	return doingError("sign", err)
}

// CheckDecrypt returns why the key of a key file cannot decrypt ciphertext with
// opts, as far as that can be known without a TPM. See Key.Decrypt.
func CheckDecrypt(file *blob.Key, ciphertext []byte, opts crypto.DecrypterOpts) error {
	k, err := abilitiesOf(file)
	if err == nil {
		_, err = k.checkDecrypt(ciphertext, opts)
	}
	return doingError("decrypt", err)
}

// abilitiesOf finds the generation of TPM that a key file is for.
func abilitiesOf(file *blob.Key) (abilities, error) {
	if file == nil || file.PublicKey() == nil {
		return nil, errNoKey
	}
	if file.TSS2 != nil {
		return newAbilities20(file, nil)
	}
	return newAbilities12(file), nil
}

// errNoKey is a blob.Key that blob.Parse did not make.
var errNoKey = errors.New("there is no key in it; read it with blob.Parse")
