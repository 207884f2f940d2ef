package tpmkey

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"sync"

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
	*held
	ctx   context.Context
	alive func() error // why nobody waits for the operation any more; may be nil
}

// A held is what all the Keys have in common that WithContext made of one.
type held struct {
	tpm       *TPM
	file      *blob.Key
	public    *rsa.PublicKey
	abilities abilities

	slot   slot // of the operation whose turn it is
	secret *vault
	srk    *vault

	mu     sync.Mutex // guards what follows
	proved bool       // the TPM has accepted the secret
	wrong  error      // set once the TPM called a secret wrong
	closed bool
}

var (
	_ crypto.Signer    = (*Key)(nil)
	_ crypto.Decrypter = (*Key)(nil)
)

// String names the key, for logs; it shows no secret.
func (k *Key) String() string {
	return fmt.Sprintf("TPM key (RSA %d)", k.public.N.BitLen())
}

// Format hides everything but String's text from package fmt.
func (k *Key) Format(f fmt.State, _ rune) { io.WriteString(f, k.String()) }

// Public returns the key's public half, an *rsa.PublicKey.
func (k *Key) Public() crypto.PublicKey { return k.public }

// File returns what the key file said. The caller must not change it.
func (k *Key) File() *blob.Key { return k.file }

// Sign signs digest with PKCS#1 v1.5 and returns a signature as long as the
// key. opts must be a crypto.Hash, and digest a digest of that hash; with
// crypto.Hash(0), digest is signed as it is, with no DigestInfo around it. rand
// is ignored.
//
// A key of the DER scheme signs every hash that crypto/rsa knows; one of the
// SHA1 scheme signs SHA-1 only. Everything else, RSA-PSS first of all, is
// ErrNotSupported. Every signature was verified before it is returned.
//
// Errors: ErrNotSupported, ErrSecretNeeded, ErrWrongKeySecret (a try was spent),
// ErrLockedOut, ErrUnloaded, ErrBusy, ErrGone, ErrClosed; one of no kind for a
// digest of the wrong length; those of WithContext and WithConn. TPM Main Part 3, section 13.5 (TPM_Sign).
func (k *Key) Sign(_ io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	s, err := k.abilities.checkSign(digest, opts)
	if err != nil {
		return nil, fmt.Errorf("sign: %w", err)
	}
	sig, err := k.sign(s)
	if err != nil {
		return nil, fmt.Errorf("sign: %w", err)
	}
	return sig, nil
}

// sign signs, and signs again with the key loaded anew where the signature is
// wrong: then what has the key's handle may be another key, after a restart of the
// TPM that nobody noticed.
func (k *Key) sign(s *signing) ([]byte, error) {
	area := k.own(s.area)
	once := func(in loadedKey, auth authData) ([]byte, error) { return in.sign(area, auth) }
	sig, err := k.operate(once)
	if err != nil || s.verify(sig) == nil {
		return sig, err
	}
	if err := k.distrust(); err != nil {
		return nil, err
	}
	if sig, err = k.operate(once); err == nil {
		err = s.verify(sig)
	}
	return sig, err
}

// own returns what the caller gave, in bytes of its own where the operation may go
// on after the caller has gone.
func (k *Key) own(b []byte) []byte {
	if k.ctx.Done() == nil {
		return b
	}
	return bytes.Clone(b)
}

// Decrypt decrypts a ciphertext as long as the key. With nil opts it uses the
// key's own scheme; otherwise opts must be the options of that scheme:
//
//   - *rsa.PKCS1v15DecryptOptions. With SessionKeyLen n, whatever is wrong with
//     the plaintext gives n bytes of random and no error, as in crypto/rsa.
//     A nil random stands for crypto/rand's. For a key with a secret that takes two
//     commands more: its session is a new one each time.
//   - *rsa.OAEPOptions with Hash SHA-1 and Label "TCPA", which TPM 1.2 fixes.
//     Encrypt makes such ciphertexts.
//
// Errors: rsa.ErrDecryption, ErrNotSupported, ErrSecretNeeded, ErrWrongKeySecret
// (a try was spent), ErrLockedOut, ErrUnloaded, ErrBusy, ErrGone, ErrClosed; those
// of WithContext and WithConn. TPM Main Part 3, section 10.3 (TPM_UnBind).
func (k *Key) Decrypt(random io.Reader, ciphertext []byte, opts crypto.DecrypterOpts) ([]byte, error) {
	if err := k.abilities.checkDecrypt(ciphertext, opts); err != nil {
		return nil, fmt.Errorf("decrypt: %w", err)
	}
	var sessionKey []byte
	if o, ok := opts.(*rsa.PKCS1v15DecryptOptions); ok && o != nil && o.SessionKeyLen > 0 {
		if random == nil {
			random = rand.Reader
		}
		sessionKey = make([]byte, o.SessionKeyLen)
		if _, err := io.ReadFull(random, sessionKey); err != nil {
			return nil, fmt.Errorf("decrypt: %w", err)
		}
	}
	ciphertext = k.own(ciphertext)
	plain, err := k.operate(func(in loadedKey, auth authData) ([]byte, error) {
		plain, err := in.decrypt(ciphertext, auth)
		switch {
		case sessionKey != nil: // a bad ciphertext ends the session; the next operation must not tell
			k.tpm.chip.endSessions()
		case errors.Is(err, errDecryption) && !k.file.NeedsSecret() && !in.isStill(k.public):
			return nil, errTaken
		}
		return plain, err
	})
	if sessionKey != nil && (err == nil || errors.Is(err, errDecryption)) {
		return chooseSessionKey(plain, sessionKey, err == nil), nil
	}
	if err != nil {
		return nil, fmt.Errorf("decrypt: %w", err)
	}
	return plain, nil
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
