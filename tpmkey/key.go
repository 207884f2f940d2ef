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

// A Key is a private key in a TPM: a crypto.Signer and crypto.Decrypter. It is safe for
// concurrent use. Close it to free its slot in the TPM.
//
// A TPM has few slots. There can be more keys than slots: the least recently used key is removed
// for another one, and loaded again when it is used. A key that the TPM lost, because of a
// restart or because somebody flushed it, is loaded again as well.
type Key struct {
	tpm   *TPM
	k     *keymgr.Key
	ctx   context.Context
	alive func() error // returns why nobody waits for the operation any more; may be nil
}

var (
	_ messageSigner    = (*Key)(nil)
	_ crypto.Decrypter = (*Key)(nil)
)

// A messageSigner is a crypto.MessageSigner, which Go has from version 1.25 on.
type messageSigner interface {
	crypto.Signer
	SignMessage(rand io.Reader, message []byte, opts crypto.SignerOpts) (signature []byte, err error)
}

// String returns the key's algorithm, for logs. It shows no secret.
func (k *Key) String() string {
	return fmt.Sprintf("TPM key (%s)", algorithmOf(k.Public()))
}

// Format hides everything but String's text from package fmt.
func (k *Key) Format(f fmt.State, _ rune) { io.WriteString(f, k.String()) }

// algorithmOf returns an algorithm and key size, such as RSA 2048.
func algorithmOf(public crypto.PublicKey) string {
	switch p := public.(type) {
	case *rsa.PublicKey:
		return fmt.Sprintf("RSA %d", p.N.BitLen())
	case *ecdsa.PublicKey:
		return "ECC " + p.Curve.Params().Name
	}
	return "sealed data"
}

// Public returns the public key, an *rsa.PublicKey or *ecdsa.PublicKey.
func (k *Key) Public() crypto.PublicKey { return k.k.Public() }

// File returns the contents of the key file. The caller must not change it.
func (k *Key) File() blob.Key { return k.k.File() }

// Sign signs digest, which must be a digest of opts.HashFunc(). The reader is ignored.
//
// An RSA signature is as long as the key. If opts is a crypto.Hash, it is PKCS#1 v1.5; with
// crypto.Hash(0), digest is signed without a DigestInfo. If opts is an *rsa.PSSOptions, it is
// RSA-PSS with exactly that salt length, which TPM 1.2 does not have. An ECC key returns an ECDSA
// signature in ASN.1, for every hash.
//
// A TPM 1.2 key of the DER scheme signs every hash that crypto/rsa knows; one of the SHA1 scheme
// signs SHA-1 only. A TPM 2.0 key that may also decrypt, and has no scheme, does everything on
// every TPM. One that may only sign, or has a scheme, does what that and the TPM allow.
// Everything else gives ErrNotSupported. Sign verifies each signature before it returns it.
//
// Errors: ErrNotSupported, ErrSecretNeeded, ErrWrongKeySecret (a try was spent), ErrLockedOut,
// ErrPolicy, ErrBusy, ErrGone, ErrClosed; another one for a digest of the wrong length; those of
// WithContext. TPM Main Part 3, section 13.5 (TPM_Sign); TPM 2.0 Library Part 3, sections 20.2
// (TPM2_Sign) and 14.3 (TPM2_RSA_Decrypt).
func (k *Key) Sign(_ io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	op, err := k.k.Ops.Sign(k.cloneInput(digest), opts)
	if err != nil {
		return nil, fmt.Errorf("sign: %w", err)
	}
	sig, err := k.do(op)
	return sig, doingError("sign", err)
}

// SignMessage signs a message, which it hashes with opts.HashFunc(): it is the method of
// crypto.MessageSigner, which crypto/x509 and crypto/tls call from Go 1.25 on. The result and the
// errors are those of Sign for the message's digest, with one exception.
//
// A restricted key of a TPM 2.0, such as an attestation key, refuses every digest with
// ErrNotSupported, and signs with SignMessage. The TPM hashes the message, which takes a command for
// each 1024 bytes, and a slot if it is longer. opts must be the key's own scheme and hash. A message
// that begins with ff 54 43 47 (TPM_GENERATED_VALUE) gives ErrNotSupported. TPM 2.0 Library Part 3,
// sections 15.4 (TPM2_Hash) and 17.3 (TPM2_HashSequenceStart).
func (k *Key) SignMessage(_ io.Reader, message []byte, opts crypto.SignerOpts) ([]byte, error) {
	op, err := k.k.Ops.SignMessage(k.cloneInput(message), opts)
	if err != nil {
		return nil, fmt.Errorf("sign: %w", err)
	}
	sig, err := k.do(op)
	return sig, doingError("sign", err)
}

// cloneInput returns b, or a copy if the operation may continue after the caller has returned.
func (k *Key) cloneInput(b []byte) []byte {
	if k.ctx.Done() == nil {
		return b
	}
	return bytes.Clone(b)
}

// do does an operation and waits for it.
func (k *Key) do(op *chip.Operation) ([]byte, error) {
	return k.tpm.m.Do(&keymgr.Work{Ctx: k.ctx, Alive: k.alive, Key: k.k, Op: op})
}

// Decrypt decrypts a ciphertext, which is as long as the key. With nil opts it uses the key's own
// scheme, or PKCS#1 v1.5 for a key of TPM 2.0 without a scheme. Other opts:
//
//   - *rsa.PKCS1v15DecryptOptions. With SessionKeyLen n, wrong padding or a wrong length gives n random bytes
//     and no error, as in crypto/rsa. random nil stands for crypto/rand.Reader. For a TPM 1.2 key with
//     a secret, the operation ends the key's session: the next one opens another, or asks again.
//   - *rsa.OAEPOptions: on a TPM 2.0 with any hash and label; on a TPM 1.2 only with Hash SHA-1 and
//     Label "TCPA", as Encrypt uses.
//
// A key with a scheme decrypts no other scheme.
//
// Errors: rsa.ErrDecryption, ErrNotSupported, ErrSecretNeeded, ErrWrongKeySecret (a try was
// spent), ErrLockedOut, ErrPolicy, ErrBusy, ErrGone, ErrClosed; those of WithContext. TPM Main
// Part 3, section 10.3 (TPM_UnBind); TPM 2.0 Library Part 3, section 14.3 (TPM2_RSA_Decrypt).
func (k *Key) Decrypt(random io.Reader, ciphertext []byte, opts crypto.DecrypterOpts) ([]byte, error) {
	op, err := k.k.Ops.Decrypt(k.cloneInput(ciphertext), opts)
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

// ECDH agrees on a secret with the owner of the key remote, who gets the same secret from
// ecdh.PrivateKey.ECDH. The secret is the x coordinate of the shared point, as long as the
// curve's field. Hash it before use.
//
// Errors: ErrNotSupported for another curve, or a key that cannot agree on secrets; otherwise
// those of Sign. TPM 2.0 Library Part 3, section 14.5 (TPM2_ECDH_ZGen).
func (k *Key) ECDH(remote *ecdh.PublicKey) ([]byte, error) {
	op, err := k.k.Ops.Agree(remote)
	if err != nil {
		return nil, fmt.Errorf("agree: %w", err)
	}
	shared, err := k.do(op)
	return shared, doingError("agree", err)
}

// CheckSecret checks the key's secret or policy without using the key for anything else. It returns nil
// for a key that has neither. It sends one cheap command, or decrypts with a TPM 2.0 key of scheme
// RSAES; a wrong secret costs a try.
//
// Errors: those of Sign. TPM Main Part 3, section 10.6 (TPM_GetPubKey); TPM 2.0 Library Part 3,
// sections 14.3, 14.5 and 20.2, with parameters that the TPM refuses.
func (k *Key) CheckSecret(ctx context.Context) error {
	_, err := k.WithContext(ctx).do(k.k.Ops.CheckAuth)
	return doingError("check the secret", err)
}

// errHungUp means that the client that needed the operation has closed its connection.
var errHungUp = chip.WithText("the client has hung up", context.Canceled)

// WithContext returns the same key, whose operations end with ctx. An operation that waits in the
// queue is dropped. One that has begun continues, but its caller returns at once, with an error
// that wraps the context's cause. If not all operations can meet their deadlines, the newest come
// first. Closing either Key closes both.
func (k *Key) WithContext(ctx context.Context) *Key {
	return &Key{k.tpm, k.k, ctx, k.alive}
}

// withConn is WithContext for an operation that the peer of c waits for, such as a TLS client for
// the handshake's signature. The operation is also dropped if the peer closes the connection.
// Nothing is read from c.
//
// This is detected on Linux only, on connections that have a file descriptor or a method NetConn
// that returns such a connection.
func (k *Key) withConn(ctx context.Context, c net.Conn) *Key {
	return &Key{k.tpm, k.k, ctx, func() error {
		if queue.HungUp(c) {
			return errHungUp
		}
		return nil
	}}
}

// Close frees the key's slot in the TPM and clears its secret. It waits for operations under way;
// later ones give ErrClosed. If the TPM is not available, the key stays open: close it again, or
// the TPM.
func (k *Key) Close() error { return k.k.Close() }

// CheckSign returns the error with which Key.Sign would refuse digest and opts, nil if it would
// not. It needs no TPM and no secret.
func CheckSign(file blob.Key, digest []byte, opts crypto.SignerOpts) error {
	ops, err := opsOf(file)
	if err == nil {
		_, err = ops.Sign(digest, opts)
	}
	return doingError("sign", err)
}

// CheckSignMessage is CheckSign for Key.SignMessage.
func CheckSignMessage(file blob.Key, message []byte, opts crypto.SignerOpts) error {
	ops, err := opsOf(file)
	if err == nil {
		_, err = ops.SignMessage(message, opts)
	}
	return doingError("sign", err)
}

// CheckDecrypt returns why the key of a key file cannot decrypt ciphertext with opts, as far as
// that is known without a TPM. See Key.Decrypt.
func CheckDecrypt(file blob.Key, ciphertext []byte, opts crypto.DecrypterOpts) error {
	ops, err := opsOf(file)
	if err == nil {
		_, err = ops.Decrypt(ciphertext, opts)
	}
	return doingError("decrypt", err)
}

// opsOf returns the operations of most TPMs with the key of a file.
func opsOf(file blob.Key) (*chip.KeyOps, error) {
	if file == nil || file.PublicKey() == nil {
		return nil, errNoKey
	}
	if file, ok := file.(*blob.TSS2); ok {
		return chip20.OpsOf(file)
	}
	return chip12.OpsOf(file.(*blob.TPMKey)), nil
}

// errNoKey is the error for a blob.Key without a public key.
var errNoKey = errors.New("there is no key in it; read it with blob.Parse")
