package tpmkey

import (
	"crypto/sha1"
	"crypto/subtle"
	"encoding/binary"
	"errors"
	"fmt"
	"unicode/utf16"
	"unicode/utf8"
)

// A Secret is the authorization data of the SRK, of a key or of the owner: 20
// bytes, nearly always the SHA-1 of a password. TPM Main Part 2, section 5.6
// (TPM_SECRET).
//
// How a password becomes bytes was the choice of the program that set it, and
// each wrong guess costs a try of the TPM's dictionary-attack defence. So the
// encoding is always named by the caller, never guessed.
//
// The zero value means "not given". Where a default exists (the SRK), it stands
// for the well-known secret; a key that needs a secret refuses it.
type Secret struct {
	given  bool
	keep   bool // what ask returns may stay in memory
	digest hidden
	ask    func() (Secret, error)
}

// A hidden is 20 secret bytes behind a function: package fmt prints the fields of
// a struct that it is given, whatever methods they have, but not what a function
// returns.
type hidden func() authData

// hide keeps a copy of digest.
func hide(digest [sha1.Size]byte) hidden { return func() authData { return &digest } }

// WellKnown returns TCG's well-known secret: 20 zero bytes, not hashed. It is
// what tpm-tools set with -z.
func WellKnown() Secret { return SHA1Secret([sha1.Size]byte{}) }

// Password returns the secret of a password taken as the bytes it is: what
// create_tpm_key, the OpenSSL engine and tpm-tools without -u set. An empty
// password is a secret of its own, SHA1(""), not the well-known one.
//
// Password does not keep the slice; the caller may clear it.
func Password(password []byte) Secret {
	return SHA1Secret(sha1.Sum(password))
}

// PasswordUTF16 returns the secret of a UTF-8 password hashed as UTF-16LE
// without a terminator: what tpm-tools set with -u, and what the pop-up windows
// of a TSS do. It fails where the password is not valid UTF-8.
//
// PasswordUTF16 does not keep the slice; the caller may clear it.
func PasswordUTF16(password []byte) (Secret, error) {
	if !utf8.Valid(password) {
		return Secret{}, errors.New("password is not valid UTF-8, so it has no UTF-16 form")
	}
	wide := make([]byte, 0, 4*len(password))
	for rest := password; len(rest) > 0; {
		r, n := utf8.DecodeRune(rest)
		rest = rest[n:]
		if hi, lo := utf16.EncodeRune(r); hi != utf8.RuneError {
			wide = binary.LittleEndian.AppendUint16(wide, uint16(hi))
			wide = binary.LittleEndian.AppendUint16(wide, uint16(lo))
			continue
		}
		wide = binary.LittleEndian.AppendUint16(wide, uint16(r))
	}
	defer clear(wide)
	return Password(wide), nil
}

// SHA1Secret returns the secret whose 20 bytes are given directly, as with the
// engine's SECRET_MODE 2.
func SHA1Secret(digest [sha1.Size]byte) Secret {
	return Secret{given: true, digest: hide(digest)}
}

// AskSecret returns a secret that ask is called for when, and only when, a TPM
// command needs it. ask returns one of the other kinds. An error that it
// returns is returned, wrapped, by the operation that needed the secret.
//
// The answer does not stay in memory: what is kept of it is an authorization
// session in the TPM. Where the TPM has lost that, because it was restarted or the
// key had to make room for others, ask is called again. See Keep.
//
// ask may be called from any goroutine that uses the key; it must not use the TPM.
func AskSecret(ask func() (Secret, error)) Secret {
	return Secret{given: true, ask: ask}
}

// Keep returns a secret that is asked for at most once and then kept in memory
// until the Key is closed, as the secrets are that are given as bytes. Servers
// that nobody sits in front of want that.
func (s Secret) Keep() Secret {
	s.keep = true
	return s
}

// IsZero reports whether no secret was given.
func (s Secret) IsZero() bool { return !s.given }

// Equal reports whether both are given and have the same 20 bytes; one that is to
// be asked for equals none. The time it takes does not tell where they differ.
func (s Secret) Equal(other Secret) bool {
	return s.digest != nil && other.digest != nil && subtle.ConstantTimeCompare(s.digest()[:], other.digest()[:]) == 1
}

// Format hides the secret from every verb of package fmt.
func (s Secret) Format(f fmt.State, _ rune) { fmt.Fprint(f, "[secret]") }

// resolve gives a copy of the 20 bytes, asking where they are to be asked for.
// what names the secret in errors.
func (s Secret) resolve(what string) ([sha1.Size]byte, error) {
	if !s.given {
		return [sha1.Size]byte{}, fmt.Errorf("%w: %s", ErrSecretNeeded, what)
	}
	if s.digest != nil {
		return *s.digest(), nil
	}
	if s.ask == nil {
		return [sha1.Size]byte{}, fmt.Errorf("%w: %s: AskSecret was given no function", ErrSecretNeeded, what)
	}
	answer, err := s.ask()
	if err != nil {
		return [sha1.Size]byte{}, fmt.Errorf("ask for %s: %w", what, err)
	}
	if answer.digest == nil {
		return [sha1.Size]byte{}, fmt.Errorf("ask for %s: the callback gave no secret", what)
	}
	return *answer.digest(), nil
}

// orWellKnown returns s, or the well-known secret where none was given.
func (s Secret) orWellKnown() Secret {
	if !s.given {
		return WellKnown()
	}
	return s
}
