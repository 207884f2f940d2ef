package main

import (
	"crypto/rsa"
	"fmt"

	"maclef/blob"
	"maclef/ecryptmount/internal/ecryptfs"
	"maclef/internal/cli"
	"maclef/tpmkey"
)

// settings are how a directory is mounted: what its record says, or else what -o
// says, or else the defaults.
type settings struct {
	recordPath  string
	record      *record // nil where there is none yet
	keyBytes    int
	names       bool // file names are encrypted
	passthrough bool
}

// settle decides on the settings of a directory with a record, nil where there is
// none yet, and refuses options that contradict it.
func settle(env *cli.Env, o *options, lower string, r *record, keyName, fingerprint string) (*settings, error) {
	s := &settings{recordPath: lower + recordSuffix, record: r, keyBytes: defaultKeyBytes, names: true}
	if r != nil {
		if err := s.agree(env, r, o, lower, keyName, fingerprint); err != nil {
			return nil, err
		}
		s.keyBytes, s.names, s.passthrough = r.KeyBytes, r.FilenameCrypto, r.Passthrough
	}
	if o.mount.keyBytes != 0 {
		s.keyBytes = o.mount.keyBytes
	}
	if o.mount.names != nil {
		s.names = *o.mount.names
	}
	if o.mount.passthrough != nil {
		s.passthrough = *o.mount.passthrough
	}
	return s, nil
}

func (s *settings) agree(env *cli.Env, r *record, o *options, lower, keyName, fingerprint string) error {
	if r.Key != fingerprint {
		return cli.WithHint(
			fmt.Errorf("%s was set up with another key than %s (%s, by %s; this one is %s)", lower, keyName, short(r.Key), s.recordPath, short(fingerprint)),
			"name the key file that it was set up with: -key FILE")
	}
	const advice = "leave the option out; settings of a directory do not change once it has files"
	if n := o.mount.keyBytes; n != 0 && n != r.KeyBytes {
		return cli.WithHint(fmt.Errorf("%s was set up with ecryptfs_key_bytes=%d, not %d (by %s)", lower, r.KeyBytes, n, s.recordPath), advice)
	}
	if names := o.mount.names; names != nil && *names != r.FilenameCrypto {
		return cli.WithHint(fmt.Errorf("%s was set up with ecryptfs_enable_filename_crypto=%s (by %s)", lower, yesNo(r.FilenameCrypto), s.recordPath), advice)
	}
	if on := o.mount.passthrough; on != nil && *on != r.Passthrough {
		env.Notef("%s was set up with ecryptfs_passthrough=%s (by %s); this time it is %s", lower, yesNo(r.Passthrough), s.recordPath, yesNo(*on))
	}
	return nil
}

func yesNo(yes bool) string {
	if yes {
		return "y"
	}
	return "n"
}

// short is the beginning of a fingerprint, as long as a token's signature.
func short(fingerprint string) string { return fingerprint[:min(16, len(fingerprint))] }

// passphraseSize is the size of a new passphrase for file names: 32 random bytes
// in hexadecimal digits.
const passphraseSize = 64

// checkKind returns the public key, and refuses one that can wrap nothing, before anything
// else is done with it.
func checkKind(file blob.Key, name string) (*rsa.PublicKey, error) {
	public, ok := file.PublicKey().(*rsa.PublicKey)
	if !ok {
		return nil, cli.WithHint(fmt.Errorf("%s is an EC key, which cannot encrypt; eCryptfs wraps the keys of files with an RSA key", name), newKey(name))
	}
	if !file.CanDecrypt() {
		return nil, cli.WithHint(fmt.Errorf("%s is a key that cannot decrypt, and so cannot open the files of a directory", name), newKey(name))
	}
	return public, nil
}

// newKey advises to make another key, than that of a file, of standard input or of a
// handle.
func newKey(name string) string {
	if _, handle, _ := tpmkey.ParseHandle(name); handle || name == "-" {
		name = "maclef"
	}
	return "make a key of 2048 bits: keygen " + name + "2"
}

// checkKey refuses a key that cannot wrap what has to be wrapped.
func checkKey(file blob.Key, name string, s *settings) error {
	need, what := ecryptfs.FileKeySize(s.keyBytes), "the key of a file"
	if s.names && need < passphraseSize {
		need, what = passphraseSize, "the passphrase for file names"
	}
	room := tpmkey.MaxMessage(file)
	if room >= 0 && room < need {
		return cli.WithHint(fmt.Errorf("%s is too small a key: it encrypts %d bytes, and %s has %d", name, room, what, need),
			newKey(name))
	}
	if _, err := tpmkey.Encrypt(file, make([]byte, max(0, min(need, room)))); err != nil {
		return cli.WithHint(fmt.Errorf("%s: %w", name, err), newKey(name))
	}
	return nil
}
