package keymgr

import (
	"bytes"
	"crypto/sha1"
	"crypto/subtle"
	"encoding/binary"
	"errors"
	"fmt"
	"maclef/internal/chip"
	"unicode/utf16"
	"unicode/utf8"
)

// A Secret is the authorization data of the SRK, of a key or of the owner. For a
// TPM 1.2 that is 20 bytes, nearly always the SHA-1 of a password (TPM Main Part 2,
// section 5.6, TPM_SECRET); for a TPM 2.0 it is the password itself (TPM 2.0 Library
// Part 1, section 19.6.5, and Part 2, section 10.4.5, TPM2B_AUTH).
//
// How a password becomes bytes was the choice of the program that set it, and
// each wrong guess costs a try of the TPM's dictionary-attack defence. So the
// encoding is always named by the caller, never guessed.
//
// The zero value means "not given". Where a default exists (the SRK), it stands
// for the well-known secret; a key that needs a secret refuses it.
type Secret struct {
	given bool
	keep  bool // what ask returns may stay in memory
	value hidden
	ask   func() (Secret, error)
}

// A hidden is a secret behind a function: package fmt prints the fields of a struct
// that it is given, whatever methods they have, but not what a function returns.
type hidden func() *value

// A value is a secret in the forms that the generations of TPM take.
type value struct {
	form   form
	sha1   [sha1.Size]byte // for TPM 1.2
	secret []byte          // for TPM 2.0, of those that have one
}

// A form is what a secret was made from.
type form int

const (
	ofBytes form = iota
	ofWellKnown
	ofUTF16
	ofSHA1
)

// secretOf has v, which it owns.
func secretOf(v *value) Secret {
	return Secret{given: true, value: func() *value { return v }}
}

func (v *value) clone() *value {
	return &value{v.form, v.sha1, bytes.Clone(v.secret)}
}

// only clears what a generation of TPM does not take, and returns v.
func (v *value) only(g chip.Generation) *value {
	if g == chip.TPM12 {
		clear(v.secret)
		v.secret = nil
	}
	return v
}

func (v *value) clear() {
	clear(v.sha1[:])
	clear(v.secret)
}

// WellKnown returns the secret of a TPM that was given none. For a TPM 1.2 that is
// TCG's well-known secret, 20 zero bytes, not hashed, which tpm-tools set with -z;
// for a TPM 2.0 it is the empty one.
func WellKnown() Secret { return secretOf(&value{form: ofWellKnown, secret: []byte{}}) }

// Password returns the secret of a password taken as the bytes it is: what
// create_tpm_key, the OpenSSL engine and tpm-tools without -u set, and all programs
// for TPM 2.0. An empty password is for TPM 1.2 a secret of its own, SHA1(""), not the
// well-known one.
//
// Password does not keep the slice; the caller may clear it.
func Password(password []byte) Secret {
	return secretOf(&value{ofBytes, sha1.Sum(password), append([]byte{}, password...)})
}

// PasswordUTF16 returns the secret of a UTF-8 password hashed as UTF-16LE
// without a terminator: what tpm-tools set with -u, and what the pop-up windows
// of a TSS do. It fails where the password is not valid UTF-8. For a TPM 2.0 nobody
// does so: there it is refused.
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
	return secretOf(&value{form: ofUTF16, sha1: sha1.Sum(wide)}), nil
}

// SHA1Secret returns the secret whose 20 bytes are given directly, as with the
// engine's SECRET_MODE 2. For a TPM 2.0 it is refused, but for that of 20 zero bytes,
// which is WellKnown.
func SHA1Secret(digest [sha1.Size]byte) Secret {
	if digest == [sha1.Size]byte{} {
		return WellKnown()
	}
	return secretOf(&value{form: ofSHA1, sha1: digest})
}

// AskSecret returns a secret that ask is called for when, and only when, a TPM
// command needs it. ask returns one of the other kinds. An error that it
// returns is returned, wrapped, by the operation that needed the secret.
//
// The answer does not stay in memory: what is kept of it is an authorization
// session, which a bare TPM holds during this process's turns only. Where it is lost,
// ask is called again: after a restart of the TPM, after FlushOrphans(ctx, true), or when
// the TPM knows too many saved sessions; behind the resource manager and on a caller's
// transport also when another key needs this one's slot. See Keep.
//
// The Secret that ask returns is its own, and is not cleared.
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

// Known reports whether the secret is given, and none but the empty one of a TPM 2.0.
func (s Secret) Known() bool { return s.value != nil && len(s.value().secret) > 0 }

// IsZero reports whether no secret was given.
func (s Secret) IsZero() bool { return !s.given }

// Equal reports whether both are given and are the same 20 bytes for a TPM 1.2; one
// that is to be asked for equals none. The time it takes does not tell where they differ.
func (s Secret) Equal(other Secret) bool {
	return s.value != nil && other.value != nil && subtle.ConstantTimeCompare(s.value().sha1[:], other.value().sha1[:]) == 1
}

// Format hides the secret from every verb of package fmt.
func (s Secret) Format(f fmt.State, _ rune) { fmt.Fprint(f, "[secret]") }

// resolve gives a copy of the secret, asking where it is to be asked for. what names
// it in errors.
func (s Secret) resolve(what string) (*value, error) {
	if !s.given {
		return nil, fmt.Errorf("%w: %s", chip.ErrSecretNeeded, what)
	}
	if s.value != nil {
		return s.value().clone(), nil
	}
	if s.ask == nil {
		return nil, fmt.Errorf("%w: %s: AskSecret was given no function", chip.ErrSecretNeeded, what)
	}
	answer, err := s.ask()
	if err != nil {
		return nil, fmt.Errorf("ask for %s: %w", what, err)
	}
	if answer.value == nil {
		return nil, fmt.Errorf("ask for %s: the callback gave no secret", what)
	}
	return answer.value().clone(), nil
}

// ResolveFor is resolve in the form that a generation of TPM takes.
func (s Secret) ResolveFor(g chip.Generation, what string) (chip.AuthData, error) {
	v, err := s.resolve(what)
	if err != nil {
		return nil, err
	}
	defer v.clear()
	return v.forGeneration(g, what)
}

// forGeneration returns a copy in the form that a generation of TPM takes.
func (v *value) forGeneration(g chip.Generation, what string) (chip.AuthData, error) {
	if g == chip.TPM12 {
		return bytes.Clone(v.sha1[:]), nil
	}
	switch v.form {
	case ofUTF16:
		return nil, fmt.Errorf("%w: %s is given as UTF-16, which no program does for a TPM 2.0; give the password as it is", chip.ErrNotSupported, what)
	case ofSHA1:
		return nil, fmt.Errorf("%w: %s is given as a SHA-1 digest, which is for TPM 1.2; give the password itself", chip.ErrNotSupported, what)
	}
	return append(chip.AuthData{}, v.secret...), nil
}

// OrWellKnown returns s, or the well-known secret where none was given.
func (s Secret) OrWellKnown() Secret {
	if !s.given {
		return WellKnown()
	}
	return s
}
