package main

import (
	"crypto"
	_ "crypto/md5" // the hashes that -hash names
	_ "crypto/sha1"
	_ "crypto/sha256"
	_ "crypto/sha3"
	_ "crypto/sha512"
	"strings"

	"maclef/blob"
	"maclef/internal/cli"
	"maclef/tpmkey"
)

// hashNames are the values of -hash, in the order of the usage text.
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

// maxRaw is the largest input of -hash none, in bytes: no key takes more.
const maxRaw = 256

func sign(env *cli.Env, flags *cli.FlagSet, args []string) error {
	flags.Notes = "HASH is " + strings.Join(hashNames[:6], ", ") + ",\n" + strings.Join(hashNames[6:], ", ") + ".\n\n" +
		"The signature is PKCS#1 v1.5, binary: openssl dgst -sha256 -verify checks it against the\n" +
		"public key of tpmctl pub. With -hash none the input itself is signed, with no DigestInfo."
	flags.Example = "tpmctl sign -key maclef -hash sha256 -in letter.txt -out letter.sig"
	u := keyUseFlags(flags)
	name := flags.Choice("hash", "sha256", "`HASH` of the input, see below", hashNames...)
	if _, err := flags.Parse(args); err != nil {
		return err
	}
	hash := hashByName[*name]
	prepare := func(k *blob.Key) ([]byte, error) {
		digest, err := digestInput(env, *u.in, hash)
		if err != nil {
			return nil, err
		}
		return digest, tpmkey.CheckSign(k, digest, hash)
	}
	use := func(k *tpmkey.Key, digest []byte) ([]byte, error) { return k.Sign(nil, digest, hash) }
	return u.run(env, cli.CertMode, prepare, use)
}

// digestInput hashes the input without holding it whole; hash 0 gives the input.
func digestInput(env *cli.Env, path string, hash crypto.Hash) ([]byte, error) {
	if hash == 0 {
		return env.ReadInput(path, maxRaw, "message to sign without a hash")
	}
	return env.HashInput(path, hash.New())
}
