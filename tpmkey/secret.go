package tpmkey

import (
	"crypto/sha1"
	"fmt"

	"maclef/internal/keymgr"
)

// A Secret is the authorization data of the SRK, of a key or of the owner. For a
// TPM 1.2 that is 20 bytes, nearly always the SHA-1 of a password (TPM Main Part 2,
// section 5.6, TPM_SECRET); for a TPM 2.0 it is the password itself (TPM 2.0 Library
// Part 1, section 19.6.5, and Part 2, section 10.4.5, TPM2B_AUTH).
//
// The program that set a password decided how it becomes bytes, and each wrong guess costs a try
// of the TPM's dictionary-attack defence. So the caller always states the encoding.
//
// The zero value means "not given". It stands for the well-known secret where that is the default
// (the SRK); for a key that needs a secret it is an error.
type Secret struct{ s keymgr.Secret }

// WellKnown returns the default secret. For a TPM 1.2 that is TCG's well-known secret, 20 zero
// bytes, not hashed, which tpm-tools set with -z; for a TPM 2.0 it is the empty secret.
func WellKnown() Secret { return Secret{keymgr.WellKnown()} }

// Password returns the secret for a password, taken as bytes. create_tpm_key, the OpenSSL engine,
// tpm-tools without -u, and all programs for TPM 2.0 set such secrets. For a TPM 1.2 the empty
// password is SHA1(""), not the well-known secret.
//
// Password does not keep the slice; the caller may clear it.
func Password(password []byte) Secret { return Secret{keymgr.Password(password)} }

// PasswordUTF16 returns the secret for a UTF-8 password that is hashed as UTF-16LE without a
// terminator. tpm-tools with -u, and the dialogs of a TSS, set such secrets. A password that is
// not valid UTF-8 is an error. It cannot be used with a TPM 2.0, because no program sets such
// secrets there.
//
// PasswordUTF16 does not keep the slice; the caller may clear it.
func PasswordUTF16(password []byte) (Secret, error) {
	s, err := keymgr.PasswordUTF16(password)
	return Secret{s}, err
}

// SHA1Secret returns the secret with these 20 bytes, like the engine's SECRET_MODE 2. With a TPM
// 2.0 only 20 zero bytes can be used, which stand for WellKnown.
func SHA1Secret(digest [sha1.Size]byte) Secret { return Secret{keymgr.SHA1Secret(digest)} }

// AskSecret returns a secret that ask returns when a command needs it. ask returns one of the
// other kinds. If ask returns an error, the operation returns an error that wraps it.
//
// The answer does not stay in memory. Instead there is an authorization session, which a bare TPM
// holds only during this process's turns. If the session is lost, ask is called again: after a
// restart of the TPM, after FlushOrphans(ctx, true), or when the TPM has too many saved sessions;
// behind the resource manager and with OpenTransport also when another key needs this one's slot.
// See Keep.
//
// The Secret that ask returns belongs to ask, and is not cleared.
//
// ask may be called from any goroutine that uses the key; it must not use the TPM.
func AskSecret(ask func() (Secret, error)) Secret {
	if ask == nil {
		return Secret{keymgr.AskSecret(nil)}
	}
	return Secret{keymgr.AskSecret(func() (keymgr.Secret, error) {
		answer, err := ask()
		return answer.s, err
	})}
}

// Keep returns a secret that is asked for once at most, and then kept in memory until the Key is
// closed, like secrets that are given as bytes. It is for servers that run unattended.
func (s Secret) Keep() Secret { return Secret{s.s.Keep()} }

// Clear overwrites a secret that is given as bytes. Its copies cannot be used any more, either:
// the error is ErrSecretNeeded. Keys that were loaded with it have their own.
func (s Secret) Clear() { s.s.Clear() }

// IsZero reports whether no secret was given.
func (s Secret) IsZero() bool { return s.s.IsZero() }

// Equal reports whether both secrets are given and are the same 20 bytes for a TPM 1.2. An
// AskSecret is equal to none. It runs in constant time.
func (s Secret) Equal(other Secret) bool { return s.s.Equal(other.s) }

// Format hides the secret from every verb of package fmt.
func (s Secret) Format(f fmt.State, _ rune) { fmt.Fprint(f, "[secret]") }

// orWellKnown returns s, or the well-known secret if s was not given.
func (s Secret) orWellKnown() Secret { return Secret{s.s.OrWellKnown()} }
