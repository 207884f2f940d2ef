package main

import (
	"crypto/rsa"
	"fmt"

	"maclef/blob"
	"maclef/ecryptmount/internal/ecryptfs"
	"maclef/internal/cli"
	"maclef/tpmkey"
)

// settings say how a directory is mounted. The settings file comes first, then -o, then the
// defaults.
type settings struct {
	path        string
	file        *settingsFile // nil before the first mount
	keyBytes    int
	names       bool // encrypt file names
	passthrough bool
}

// resolveSettings returns the settings of a directory. r is its settings file, nil before the first
// mount. Options that contradict the file are an error.
func resolveSettings(env *cli.Env, o *options, lower string, r *settingsFile, keyName, fingerprint string) (*settings, error) {
	s := &settings{path: lower + settingsSuffix, file: r, keyBytes: defaultKeyBytes, names: true}
	if r != nil {
		if err := s.checkAgainst(env, r, o, lower, keyName, fingerprint); err != nil {
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

func (s *settings) checkAgainst(env *cli.Env, r *settingsFile, o *options, lower, keyName, fingerprint string) error {
	if r.Key != fingerprint {
		return cli.WithHint(
			fmt.Errorf("%s was set up with another key than %s (%s, by %s; this one is %s)", lower, keyName, shorten(r.Key), s.path, shorten(fingerprint)),
			"give the key file that it was set up with: -key FILE")
	}
	const advice = "leave the option out: the settings of a directory cannot change after its first mount"
	if n := o.mount.keyBytes; n != 0 && n != r.KeyBytes {
		return cli.WithHint(fmt.Errorf("%s was set up with ecryptfs_key_bytes=%d, not %d (by %s)", lower, r.KeyBytes, n, s.path), advice)
	}
	if names := o.mount.names; names != nil && *names != r.FilenameCrypto {
		return cli.WithHint(fmt.Errorf("%s was set up with ecryptfs_enable_filename_crypto=%s (by %s)", lower, yesNo(r.FilenameCrypto), s.path), advice)
	}
	if on := o.mount.passthrough; on != nil && *on != r.Passthrough {
		env.Notef("%s was set up with ecryptfs_passthrough=%s (by %s); this time it is %s", lower, yesNo(r.Passthrough), s.path, yesNo(*on))
	}
	return nil
}

func yesNo(yes bool) string {
	if yes {
		return "y"
	}
	return "n"
}

// shorten cuts a fingerprint to the length of a token's signature.
func shorten(fingerprint string) string { return fingerprint[:min(16, len(fingerprint))] }

// passphraseSize is the size of a new passphrase for file names: 32 random bytes in hexadecimal.
const passphraseSize = 64

// checkKind returns the public key. It refuses a key that cannot wrap any file key.
func checkKind(file blob.Key, name string) (*rsa.PublicKey, error) {
	public, ok := file.PublicKey().(*rsa.PublicKey)
	if !ok {
		return nil, cli.WithHint(fmt.Errorf("%s is an EC key, which cannot encrypt; eCryptfs wraps the keys of files with an RSA key", name), newKeyHint(name))
	}
	if !file.CanDecrypt() {
		return nil, cli.WithHint(fmt.Errorf("the key %s cannot decrypt, so it cannot open encrypted files", name), newKeyHint(name))
	}
	return public, nil
}

// newKeyHint advises to make another key. Its name is derived from a file's name.
func newKeyHint(name string) string {
	if _, handle, _ := tpmkey.ParseHandle(name); handle || name == "-" {
		name = "maclef"
	}
	return "make a key of 2048 bits: keygen " + name + "2"
}

// checkKey refuses a key that is too small for file keys or the passphrase.
func checkKey(file blob.Key, name string, s *settings) error {
	need, what := ecryptfs.FileKeySize(s.keyBytes), "the key of a file"
	if s.names && need < passphraseSize {
		need, what = passphraseSize, "the passphrase for file names"
	}
	room := tpmkey.MaxMessage(file)
	if room >= 0 && room < need {
		return cli.WithHint(fmt.Errorf("the key %s is too small: it encrypts %d bytes, and %s has %d", name, room, what, need),
			newKeyHint(name))
	}
	if _, err := tpmkey.Encrypt(file, make([]byte, max(0, min(need, room)))); err != nil {
		return cli.WithHint(fmt.Errorf("%s: %w", name, err), newKeyHint(name))
	}
	return nil
}
