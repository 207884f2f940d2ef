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
// How a password becomes bytes was the choice of the program that set it, and
// each wrong guess costs a try of the TPM's dictionary-attack defence. So the
// encoding is always named by the caller, never guessed.
//
// The zero value means "not given". Where a default exists (the SRK), it stands
// for the well-known secret; a key that needs a secret refuses it.
type Secret struct{ s keymgr.Secret }

// WellKnown returns the secret of a TPM that was given none. For a TPM 1.2 that is
// TCG's well-known secret, 20 zero bytes, not hashed, which tpm-tools set with -z;
// for a TPM 2.0 it is the empty one.
func WellKnown() Secret { return Secret{keymgr.WellKnown()} }

// Password returns the secret of a password taken as the bytes it is: what
// create_tpm_key, the OpenSSL engine and tpm-tools without -u set, and all programs
// for TPM 2.0. An empty password is for TPM 1.2 a secret of its own, SHA1(""), not the
// well-known one.
//
// Password does not keep the slice; the caller may clear it.
func Password(password []byte) Secret { return Secret{keymgr.Password(password)} }

// PasswordUTF16 returns the secret of a UTF-8 password hashed as UTF-16LE
// without a terminator: what tpm-tools set with -u, and what the pop-up windows
// of a TSS do. It fails where the password is not valid UTF-8. For a TPM 2.0 nobody
// does so: there it is refused.
//
// PasswordUTF16 does not keep the slice; the caller may clear it.
func PasswordUTF16(password []byte) (Secret, error) {
	s, err := keymgr.PasswordUTF16(password)
	return Secret{s}, err
}

// SHA1Secret returns the secret whose 20 bytes are given directly, as with the
// engine's SECRET_MODE 2. For a TPM 2.0 it is refused, but for that of 20 zero bytes,
// which is WellKnown.
func SHA1Secret(digest [sha1.Size]byte) Secret { return Secret{keymgr.SHA1Secret(digest)} }

// AskSecret returns a secret that ask is called for when, and only when, a TPM
// command needs it. ask returns one of the other kinds. An error that it
// returns is returned, wrapped, by the operation that needed the secret.
//
// The answer does not stay in memory: what is kept of it is an authorization
// session, which a bare TPM holds during this process's turns only. Where it is lost,
// ask is called again: after a restart of the TPM, after FlushOrphans(ctx, true), or when
// the TPM knows too many saved sessions; behind the resource manager and on a caller's
// transport also when another key needs this one's place. See Keep.
//
// The Secret that ask returns is its own, and is not cleared.
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

// Keep returns a secret that is asked for at most once and then kept in memory
// until the Key is closed, as the secrets are that are given as bytes. Servers
// that nobody sits in front of want that.
func (s Secret) Keep() Secret { return Secret{s.s.Keep()} }

// IsZero reports whether no secret was given.
func (s Secret) IsZero() bool { return s.s.IsZero() }

// Equal reports whether both are given and are the same 20 bytes for a TPM 1.2; one
// that is to be asked for equals none. The time it takes does not tell where they differ.
func (s Secret) Equal(other Secret) bool { return s.s.Equal(other.s) }

// Format hides the secret from every verb of package fmt.
func (s Secret) Format(f fmt.State, _ rune) { fmt.Fprint(f, "[secret]") }

// orWellKnown returns s, or the well-known secret where none was given.
func (s Secret) orWellKnown() Secret { return Secret{s.s.OrWellKnown()} }
