package tpmkey

import (
	"cmp"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"

	"maclef/blob"
)

// A Key is a private key in a TPM: a crypto.Signer and crypto.Decrypter. It is
// safe for concurrent use. Close it to free its place in the TPM.
type Key struct {
	tpm    *TPM
	file   *blob.Key
	public *rsa.PublicKey
	loaded loadedKey

	asking sync.Mutex // held while the secret is asked for, which can take long

	mu     sync.Mutex // guards what follows
	secret Secret
	auth   hidden // secret, once it is known
	proved bool   // the TPM has accepted it
	wrong  error  // set once the TPM called the secret wrong
	closed bool
}

var (
	_ crypto.Signer    = (*Key)(nil)
	_ crypto.Decrypter = (*Key)(nil)
)

// LoadOptions are the secrets for Load. The zero value, or a nil pointer, is
// right for a TPM whose SRK has the well-known secret and a key without one.
type LoadOptions struct {
	// Name is what errors call the key, for LoadFile by default its path.
	Name string
	// SRK is the secret of the storage root key; the zero value stands for the
	// well-known secret.
	SRK Secret
	// Key is the key's own secret. It is used, and an AskSecret is asked, only
	// by the first operation of a key that needs a secret.
	Key Secret
}

// maxKeyFile is more than any key file has, in bytes.
const maxKeyFile = 1 << 20

// LoadFile loads the key of a key file, in any of the containers that blob.Parse
// knows. opts may be nil. Errors: those of blob.Parse and of Load.
func (t *TPM) LoadFile(path string, opts *LoadOptions) (*Key, error) {
	file, err := readKeyFile(path)
	if err != nil {
		return nil, fmt.Errorf("load key: %w", err)
	}
	var named LoadOptions
	if opts != nil {
		named = *opts
	}
	named.Name = cmp.Or(named.Name, path)
	return t.Load(file, &named)
}

func readKeyFile(path string) (*blob.Key, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxKeyFile+1))
	if err != nil {
		return nil, err
	}
	if len(data) > maxKeyFile {
		return nil, fmt.Errorf("%s: over %d bytes: too large for a key file", path, maxKeyFile)
	}
	k, err := blob.Parse(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return k, nil
}

// Load loads a key under the SRK. opts may be nil.
//
// Errors: ErrWrongSRKSecret (a try was spent), ErrLockedOut, ErrWrongTPM,
// ErrNotOwned, ErrDisabled, ErrNotSupported for a key that can neither sign nor
// decrypt, ErrGone.
func (t *TPM) Load(file *blob.Key, opts *LoadOptions) (*Key, error) {
	if opts == nil {
		opts = new(LoadOptions)
	}
	k, err := t.load(file, opts)
	if err != nil {
		return nil, fmt.Errorf("load %s: %w", cmp.Or(opts.Name, "key"), err)
	}
	return k, nil
}

func (t *TPM) load(file *blob.Key, opts *LoadOptions) (*Key, error) {
	if file == nil || file.PublicKey() == nil {
		return nil, errNoKey
	}
	if err := t.chip.checkUsable(file); err != nil {
		return nil, err
	}
	k := &Key{tpm: t, file: file, public: file.PublicKey(), secret: opts.Key}
	srk, err := t.srkSecret(opts.SRK)
	if err != nil {
		return nil, err
	}
	defer clear(srk[:])
	err = t.turn(func() (err error) {
		if k.loaded, err = t.chip.load(file, srk); err == nil {
			t.keys[k] = struct{}{}
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return k, nil
}

// srkSecret resolves the SRK's secret. Nobody is asked for the secret of a TPM
// that has no SRK.
func (t *TPM) srkSecret(s Secret) (authData, error) {
	if s.ask != nil {
		if err := t.turn(func() error { return t.chip.ready() }); err != nil {
			return nil, err
		}
	}
	auth, err := s.orWellKnown().resolve("the SRK's secret")
	return &auth, err
}

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
// ErrLockedOut, ErrUnloaded, ErrGone, ErrClosed; one of no kind for a digest of
// the wrong length. TPM Main Part 3, section 13.5 (TPM_Sign).
func (k *Key) Sign(_ io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	s, err := k.loaded.checkSign(digest, opts)
	if err != nil {
		return nil, fmt.Errorf("sign: %w", err)
	}
	sig, err := k.operate(func(auth authData) ([]byte, error) { return k.loaded.sign(s.area, auth) })
	if err != nil {
		return nil, fmt.Errorf("sign: %w", err)
	}
	if err := s.verify(sig); err != nil {
		return nil, fmt.Errorf("sign: %w", err)
	}
	return sig, nil
}

// Decrypt decrypts a ciphertext as long as the key. With nil opts it uses the
// key's own scheme; otherwise opts must be the options of that scheme:
//
//   - *rsa.PKCS1v15DecryptOptions. With SessionKeyLen n, whatever is wrong with
//     the plaintext gives n bytes of random and no error, as in crypto/rsa.
//     A nil random stands for crypto/rand's.
//   - *rsa.OAEPOptions with Hash SHA-1 and Label "TCPA", which TPM 1.2 fixes.
//     Encrypt makes such ciphertexts.
//
// Errors: rsa.ErrDecryption, ErrNotSupported, ErrSecretNeeded, ErrWrongKeySecret
// (a try was spent), ErrLockedOut, ErrUnloaded, ErrGone, ErrClosed. TPM Main
// Part 3, section 10.3 (TPM_UnBind).
func (k *Key) Decrypt(random io.Reader, ciphertext []byte, opts crypto.DecrypterOpts) ([]byte, error) {
	if err := k.loaded.checkDecrypt(ciphertext, opts); err != nil {
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
	plain, err := k.operate(func(auth authData) ([]byte, error) { return k.loaded.decrypt(ciphertext, auth) })
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
