package main

import (
	"crypto"
	_ "crypto/md5" // the hashes that -hash names
	"crypto/rsa"
	_ "crypto/sha1"
	_ "crypto/sha256"
	_ "crypto/sha3"
	_ "crypto/sha512"
	"errors"
	"strconv"
	"strings"

	"maclef/blob"
	"maclef/internal/cli"
	"maclef/tpmkey"
)

// hashNames are the values of -hash, in the order of the help.
var hashNames = []string{
	"sha256", "sha384", "sha512", "sha224", "sha512-224", "sha512-256",
	"sha3-224", "sha3-256", "sha3-384", "sha3-512", "sha1", "md5", "none",
}

var hashByName = map[string]crypto.Hash{
	"md5": crypto.MD5, "sha1": crypto.SHA1, "sha224": crypto.SHA224, "sha256": crypto.SHA256,
	"sha384": crypto.SHA384, "sha512": crypto.SHA512, "sha512-224": crypto.SHA512_224, "sha512-256": crypto.SHA512_256,
	"sha3-224": crypto.SHA3_224, "sha3-256": crypto.SHA3_256, "sha3-384": crypto.SHA3_384, "sha3-512": crypto.SHA3_512,
	"none": 0,
}

// Limits of inputs in bytes. maxRaw is for -hash none: no key takes more. maxHashed is for a
// restricted key: a chip gets 1024 bytes with a command, and nobody else can use it meanwhile.
const (
	maxRaw    = 512
	maxHashed = 16 << 20
)

func sign(env *cli.Env, flags *cli.FlagSet, args []string) error {
	flags.Notes = "HASH is " + strings.Join(hashNames[:6], ", ") + ",\n" + strings.Join(hashNames[6:], ", ") + ".\n\n" +
		"An RSA key signs PKCS#1 v1.5, or PSS with -pss (TPM 2.0 only); an ECC key signs ECDSA, in DER. " +
		"openssl dgst -sha256 -verify checks the signature with the public key of tpmctl pub; for PSS it needs -sigopt rsa_padding_mode:pss. " +
		"-hash none signs the input itself; RSA then adds no DigestInfo.\n\n" +
		"A restricted key (of a TPM 2.0, such as an attestation key) signs what the TPM itself has hashed, with the key's own scheme and hash. " +
		"That takes a chip long, so the input has 16 MiB at most. It must not begin with the bytes ff 54 43 47, as the TPM's own attestations do."
	flags.Example = "tpmctl sign -key maclef -hash sha256 -in letter.txt -out letter.sig\ntpmctl sign -pss -in letter.txt -out letter.sig"
	u := keyUseFlags(flags)
	name := flags.Choice("hash", "sha256", "`HASH` of the input, see below", hashNames...)
	pss := flags.Bool("pss", "RSA: PSS instead of PKCS#1 v1.5")
	salt := &saltValue{length: rsa.PSSSaltLengthEqualsHash}
	flags.Var(salt, "salt", "with -pss: `LENGTH` of the salt in bytes, hash (as long as the hash), or max (default hash)")
	if _, err := flags.Parse(args); err != nil {
		return err
	}
	hash := hashByName[*name]
	opts := crypto.SignerOpts(hash)
	switch {
	case !*pss && flags.Given("salt"):
		return &cli.UsageError{Text: "-salt is for PSS", Advice: "add -pss"}
	case *pss && hash == 0:
		return &cli.UsageError{Text: "-pss needs a hash, not -hash none", Advice: "leave out -hash none, or -pss"}
	case *pss:
		opts = &rsa.PSSOptions{SaltLength: salt.length, Hash: hash}
	}
	prepare := func(k blob.Key) ([]byte, error) { return signInput(env, *u.in, k, opts) }
	use := func(k *tpmkey.Key, in []byte) ([]byte, error) {
		if restricted(k.File()) {
			return k.SignMessage(nil, in, opts)
		}
		return k.Sign(nil, in, opts)
	}
	return u.run(env, cli.CertMode, prepare, use)
}

// signFlags returns the flags with which the key signs, the default hash and PKCS#1 v1.5 first. They
// are empty if it needs none. ok is false if it does not sign.
func signFlags(k blob.Key) (flags string, ok bool) {
	for _, way := range []string{"", "-pss", "-pss -salt max"} {
		for i, name := range hashNames[:len(hashNames)-1] { // without "none"
			hash := hashByName[name]
			var opts crypto.SignerOpts = hash
			var given []string
			if way != "" {
				salt := rsa.PSSSaltLengthEqualsHash
				if way == "-pss -salt max" { // there is no room for more in a short key
					salt = rsa.PSSSaltLengthAuto
				}
				opts = &rsa.PSSOptions{SaltLength: salt, Hash: hash}
				given = append(given, way)
			}
			if i > 0 {
				given = append(given, "-hash "+name)
			}
			if tpmkey.CheckSignMessage(k, nil, opts) == nil {
				return strings.Join(given, " "), true
			}
		}
	}
	return "", false
}

// withSignFlags adds to an error about what a key does not sign the flags with which it signs.
func withSignFlags(k blob.Key, opts crypto.SignerOpts, err error) error {
	if !errors.Is(err, tpmkey.ErrNotSupported) {
		return err
	}
	o, pss := opts.(*rsa.PSSOptions)
	flags, ok := signFlags(k)
	switch {
	case !ok, pss && o.SaltLength > 0: // the error is about that
		return err
	case pss && tpmkey.CheckSignMessage(k, nil, opts.HashFunc()) == nil:
		return cli.WithHint(err, "leave out -pss")
	case flags == "":
		return cli.WithHint(err, "leave out -hash and -pss: this key signs without them")
	}
	return cli.WithHint(err, "this key signs with "+flags)
}

// restricted reports whether a key signs messages only, not digests.
func restricted(k blob.Key) bool {
	t, ok := k.(*blob.TSS2)
	return ok && t.Restricted()
}

// signInput returns what the key signs: a digest, for a restricted key the message.
func signInput(env *cli.Env, path string, k blob.Key, opts crypto.SignerOpts) ([]byte, error) {
	if restricted(k) {
		return readMessage(env, path, k, opts)
	}
	digest, err := digestInput(env, path, opts.HashFunc())
	if err != nil {
		return nil, err
	}
	return digest, withSignFlags(k, opts, tpmkey.CheckSign(k, digest, opts))
}

// readMessage reads the input for a restricted key.
func readMessage(env *cli.Env, path string, k blob.Key, opts crypto.SignerOpts) ([]byte, error) {
	if err := tpmkey.CheckSignMessage(k, nil, opts); err != nil {
		return nil, withSignFlags(k, opts, err)
	}
	message, err := env.ReadInput(path, maxHashed, "message for a restricted key")
	if err != nil {
		return nil, err
	}
	return message, tpmkey.CheckSignMessage(k, message, opts)
}

// digestInput hashes the input, or reads it if hash is 0.
func digestInput(env *cli.Env, path string, hash crypto.Hash) ([]byte, error) {
	if hash == 0 {
		return env.ReadInput(path, maxRaw, "message to sign without a hash")
	}
	return env.HashInput(path, hash.New())
}

// A saltValue is the value of -salt for rsa.PSSOptions, which cannot have an empty salt.
type saltValue struct{ length int }

func (v *saltValue) Set(s string) error {
	switch s {
	case "hash":
		v.length = rsa.PSSSaltLengthEqualsHash
		return nil
	case "max":
		v.length = rsa.PSSSaltLengthAuto
		return nil
	}
	n, err := strconv.Atoi(s)
	if err != nil || n < 1 || n > maxRaw {
		return cli.Usagef("it takes hash, max, or a number of bytes from 1 to %d", maxRaw)
	}
	v.length = n
	return nil
}

func (v *saltValue) String() string { return "" }
