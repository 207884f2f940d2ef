package tpmkey

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"fmt"
	"io"
	"net"

	"maclef/blob"
	"maclef/internal/chip"
	"maclef/internal/chip12"
	"maclef/internal/chip20"
	"maclef/internal/keymgr"
	"maclef/internal/queue"
)

// A Key is a private key in a TPM: a crypto.Signer and crypto.Decrypter. It is
// safe for concurrent use. Close it to free its place in the TPM.
//
// A TPM has few places. A key that was not used for the longest time makes room
// for another one, and comes back when it is used; so there can be more keys than
// places. One that the TPM lost, because it was restarted or somebody flushed it,
// is loaded again, too.
type Key struct {
	tpm   *TPM
	k     *keymgr.Key
	ctx   context.Context
	alive func() error // why nobody waits for the operation any more; may be nil
}

var (
	_ crypto.Signer    = (*Key)(nil)
	_ crypto.Decrypter = (*Key)(nil)
)

// String names the key, for logs; it shows no secret.
func (k *Key) String() string {
	return fmt.Sprintf("TPM key (%s)", algorithmOf(k.Public()))
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
func (k *Key) Public() crypto.PublicKey { return k.k.Public() }

// File returns what the key file said. The caller must not change it.
func (k *Key) File() blob.Key { return k.k.File() }

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
// ErrLockedOut, ErrPolicy, ErrBusy, ErrGone, ErrClosed; one of no kind for a
// digest of the wrong length; those of WithContext. TPM Main Part 3,
// section 13.5 (TPM_Sign); TPM 2.0 Library Part 3, sections 20.2 (TPM2_Sign) and 14.3
// (TPM2_RSA_Decrypt).
func (k *Key) Sign(_ io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	op, err := k.k.Ops.Sign(k.own(digest), opts)
	if err != nil {
		return nil, fmt.Errorf("sign: %w", err)
	}
	sig, err := k.do(op)
	return sig, doingError("sign", err)
}

// own returns a caller's bytes, as a copy where the operation may go on after it has gone.
func (k *Key) own(b []byte) []byte {
	if k.ctx.Done() == nil {
		return b
	}
	return bytes.Clone(b)
}

// do does an operation, for who waits for it.
func (k *Key) do(op *chip.Operation) ([]byte, error) {
	return k.tpm.m.Do(&keymgr.Work{Ctx: k.ctx, Alive: k.alive, Key: k.k, Op: op})
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
// (a try was spent), ErrLockedOut, ErrPolicy, ErrBusy, ErrGone, ErrClosed; those
// of WithContext. TPM Main Part 3, section 10.3 (TPM_UnBind); TPM 2.0
// Library Part 3, section 14.3 (TPM2_RSA_Decrypt).
func (k *Key) Decrypt(random io.Reader, ciphertext []byte, opts crypto.DecrypterOpts) ([]byte, error) {
	op, err := k.k.Ops.Decrypt(k.own(ciphertext), opts)
	if err != nil {
		return nil, fmt.Errorf("decrypt: %w", err)
	}
	var sessionKey []byte
	if op.SessionKeyLen > 0 {
		if random == nil {
			random = rand.Reader
		}
		sessionKey = make([]byte, op.SessionKeyLen)
		if _, err := io.ReadFull(random, sessionKey); err != nil {
			return nil, fmt.Errorf("decrypt: %w", err)
		}
	}
	plain, err := k.do(op)
	if sessionKey != nil && (err == nil || errors.Is(err, chip.ErrDecryption)) {
		return chip.ChooseSessionKey(plain, sessionKey, err == nil), nil
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
	op, err := k.k.Ops.Agree(remote)
	if err != nil {
		return nil, fmt.Errorf("agree: %w", err)
	}
	shared, err := k.do(op)
	return shared, doingError("agree", err)
}

// CheckSecret checks the key's secret, or its policy, without using the key: it returns nil
// if an operation would not fail because of it. A key without a secret has nothing to check.
// It costs one cheap command; a wrong secret costs a try.
//
// Errors: those of Sign. TPM Main Part 3, section 10.6 (TPM_GetPubKey); TPM 2.0 Library Part
// 3, sections 14.3, 14.5 and 20.2, with parameters that the TPM refuses.
func (k *Key) CheckSecret(ctx context.Context) error {
	_, err := k.WithContext(ctx).do(k.k.Ops.CheckAuth)
	return doingError("check the secret", err)
}

// errHungUp: the client for whom the operation was has gone.
var errHungUp = chip.WithText("the client has hung up", context.Canceled)

// WithContext returns the same key for operations that somebody waits for no
// longer than ctx: one that waits for its turn is dropped before it reaches the
// TPM, and one that is under way goes on without its caller, whose error wraps the
// context's cause. Of operations with a deadline that cannot all be served in time
// the newest come first. Closing either closes both.
func (k *Key) WithContext(ctx context.Context) *Key {
	return &Key{k.tpm, k.k, ctx, k.alive}
}

// withConn is WithContext for an operation that the peer of c waits for, such as
// a TLS client for the handshake's signature: it is dropped as well when the peer
// has hung up. Nothing is read from c.
//
// A hang-up is seen on connections that have a file descriptor, themselves or
// under a method NetConn, and on Linux only.
func (k *Key) withConn(ctx context.Context, c net.Conn) *Key {
	return &Key{k.tpm, k.k, ctx, func() error {
		if queue.HungUp(c) {
			return errHungUp
		}
		return nil
	}}
}

// Close frees the key's place in the TPM and forgets its secret. Operations
// under way finish first; later ones are ErrClosed. Where the TPM cannot be had the
// key stays open: close it again, or the TPM.
func (k *Key) Close() error { return k.k.Close() }

// CheckSign returns why the key of a key file cannot sign digest with opts, nil
// if it can: what Key.Sign would say, but without a TPM, before a secret is
// tried.
func CheckSign(file blob.Key, digest []byte, opts crypto.SignerOpts) error {
	ops, err := opsOf(file)
	if err == nil {
		_, err = ops.Sign(digest, opts)
	}
	return doingError("sign", err)
}

// CheckDecrypt returns why the key of a key file cannot decrypt ciphertext with
// opts, as far as that can be known without a TPM. See Key.Decrypt.
func CheckDecrypt(file blob.Key, ciphertext []byte, opts crypto.DecrypterOpts) error {
	ops, err := opsOf(file)
	if err == nil {
		_, err = ops.Decrypt(ciphertext, opts)
	}
	return doingError("decrypt", err)
}

// opsOf returns what most TPMs can do with the key of a file.
func opsOf(file blob.Key) (*chip.KeyOps, error) {
	if file == nil || file.PublicKey() == nil {
		return nil, errNoKey
	}
	if file, ok := file.(*blob.TSS2); ok {
		return chip20.OpsOf(file)
	}
	return chip12.OpsOf(file.(*blob.TPMKey)), nil
}

// errNoKey is a blob.Key that blob.Parse did not make.
var errNoKey = errors.New("there is no key in it; read it with blob.Parse")
