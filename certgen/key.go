package main

import (
	"crypto"
	"crypto/rsa"
	"errors"
	"fmt"

	"maclef/blob"
	"maclef/internal/cli"
)

// readKey reads the key file and refuses a key that cannot sign the certificate,
// before any TPM is asked.
func readKey(env *cli.Env, o *options) (*blob.Key, error) {
	file, err := env.ReadKey(*o.key)
	if err != nil {
		return nil, err
	}
	if err := checkKey(file, algorithms[*o.md].hash); err != nil {
		return nil, fmt.Errorf("%s: %w", nameOf(*o.key, "standard input"), err)
	}
	return file, nil
}

// checkKey says why a key cannot sign a digest of hash.
func checkKey(file *blob.Key, hash crypto.Hash) error {
	public := file.RSAPublicKey()
	if !file.CanSign() {
		return cli.WithHint(
			fmt.Errorf("this key cannot sign: its usage is %v, its signature scheme %v", file.Usage, file.SigScheme),
			"make a key that signs with keygen")
	}
	if file.SigScheme == blob.SSRSASSAPKCS1v15SHA1 && hash != crypto.SHA1 {
		return cli.WithHint(
			fmt.Errorf("this key has the SHA1 signature scheme: it signs SHA-1 digests only, not %v", hash),
			"add -md sha1, or make a key of the DER scheme (keygen -q der)")
	}
	// Go's rules for keys, GODEBUG's exceptions included: a signature that is all
	// zeros is wrong, unless the key is refused first.
	err := rsa.VerifyPKCS1v15(public, hash, make([]byte, hash.Size()), make([]byte, public.Size()))
	switch {
	case errors.Is(err, rsa.ErrVerification):
		return nil
	case public.N.BitLen() < 1024:
		return cli.WithHint(
			fmt.Errorf("this key has %d bits, and Go makes no certificates for RSA keys below 1024: they are broken easily", public.N.BitLen()),
			"make a larger key with keygen")
	}
	return fmt.Errorf("this key makes no certificates: %w", err)
}
