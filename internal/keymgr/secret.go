package keymgr

import (
	"bytes"
	"crypto/sha1"
	"crypto/subtle"
	"encoding/binary"
	"errors"
	"fmt"
	"maclef/internal/chip"
	"sync"
	"unicode/utf16"
	"unicode/utf8"
)

// A Secret is authorization data; tpmkey.Secret documents it.
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
	form form

	mu      sync.Mutex // guards what follows, of a value that Secrets share
	cleared bool
	sha1    [sha1.Size]byte // for TPM 1.2
	secret  []byte          // for TPM 2.0, of those that have one
}

// A form is what a secret was made from.
type form int

const (
	ofBytes form = iota
	ofWellKnown
	ofUTF16
	ofSHA1
)

// secretOf returns a Secret that owns v.
func secretOf(v *value) Secret {
	return Secret{given: true, value: func() *value { return v }}
}

func (v *value) clone() *value {
	v.mu.Lock()
	defer v.mu.Unlock()
	return &value{form: v.form, cleared: v.cleared, sha1: v.sha1, secret: bytes.Clone(v.secret)}
}

// only clears what a generation of TPM does not accept, and returns v.
func (v *value) only(g chip.Generation) *value {
	if g == chip.TPM12 {
		clear(v.secret)
		v.secret = nil
	}
	return v
}

func (v *value) clear() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.cleared = true
	clear(v.sha1[:])
	clear(v.secret)
}

// WellKnown is tpmkey.WellKnown.
func WellKnown() Secret { return secretOf(&value{form: ofWellKnown, secret: []byte{}}) }

// Password is tpmkey.Password.
func Password(password []byte) Secret {
	return secretOf(&value{form: ofBytes, sha1: sha1.Sum(password), secret: append([]byte{}, password...)})
}

// PasswordUTF16 is tpmkey.PasswordUTF16.
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

// SHA1Secret is tpmkey.SHA1Secret.
func SHA1Secret(digest [sha1.Size]byte) Secret {
	if digest == [sha1.Size]byte{} {
		return WellKnown()
	}
	return secretOf(&value{form: ofSHA1, sha1: digest})
}

// AskSecret is tpmkey.AskSecret.
func AskSecret(ask func() (Secret, error)) Secret {
	return Secret{given: true, ask: ask}
}

// Keep is tpmkey.Secret.Keep.
func (s Secret) Keep() Secret {
	s.keep = true
	return s
}

// Clear is tpmkey.Secret.Clear.
func (s Secret) Clear() {
	if s.value != nil {
		s.value().clear()
	}
}

// Known reports whether the secret is known without asking for it.
func (s Secret) Known() bool { return s.value != nil }

// Known20 reports whether the secret of a TPM 2.0 is known and is not the empty one.
func (s Secret) Known20() bool { return s.Known() && len(s.value().secret) > 0 }

// IsZero is tpmkey.Secret.IsZero.
func (s Secret) IsZero() bool { return !s.given }

// Equal is tpmkey.Secret.Equal.
func (s Secret) Equal(other Secret) bool {
	return s.value != nil && other.value != nil && subtle.ConstantTimeCompare(s.value().sha1[:], other.value().sha1[:]) == 1
}

// Format is tpmkey.Secret.Format.
func (s Secret) Format(f fmt.State, _ rune) { fmt.Fprint(f, "[secret]") }

// resolve returns a copy of the secret, and asks for it if necessary. what names it in errors.
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

// ResolveFor returns a copy of the secret in the form that a generation of TPM accepts, and
// asks for it if necessary. what names it in errors.
func (s Secret) ResolveFor(g chip.Generation, what string) (chip.AuthData, error) {
	v, err := s.resolve(what)
	if err != nil {
		return nil, err
	}
	defer v.clear()
	return v.forGeneration(g, what)
}

// forGeneration returns a copy in the form that a generation of TPM accepts.
func (v *value) forGeneration(g chip.Generation, what string) (chip.AuthData, error) {
	if v.cleared { // zeros would be a wrong secret
		return nil, fmt.Errorf("%w: %s: it was cleared", chip.ErrSecretNeeded, what)
	}
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

// OrWellKnown returns s, or the well-known secret if none was given.
func (s Secret) OrWellKnown() Secret {
	if !s.given {
		return WellKnown()
	}
	return s
}
