package main

import (
	"errors"

	"maclef/blob"
	"maclef/internal/cli"
	"maclef/tpmkey"
)

// maxCrypt is the largest input of encrypt and decrypt, in bytes: no key takes
// more.
const maxCrypt = 256

func encrypt(env *cli.Env, flags *cli.FlagSet, args []string) error {
	flags.Notes = "For short things: 245 bytes at most for a 2048-bit PKCS#1 key, 209 for an OAEP key.\n" +
		"Encrypt a random key with it, and the data with that."
	flags.Example = "tpmctl encrypt -key maclef -in secret.txt -out secret.bin"
	key := flags.Input("key", "maclef", "key `FILE`")
	in := flags.Input("in", "-", "input `FILE`, - for standard input")
	out := outputFlags(flags)
	if _, err := flags.Parse(args); err != nil {
		return err
	}
	file, err := env.ReadKey(*key)
	if err != nil {
		return err
	}
	message, err := env.ReadInput(*in, maxCrypt, "message for one RSA key")
	if err != nil {
		return err
	}
	defer clear(message)
	if len(message) == 0 {
		return cli.WithHint(errors.New("there is nothing to encrypt: the input is empty"), "see whether the command that was to give it has failed")
	}
	ciphertext, err := tpmkey.Encrypt(file, message)
	if err != nil {
		return err
	}
	return out.write(env, cli.CertMode, ciphertext)
}

func decrypt(env *cli.Env, flags *cli.FlagSet, args []string) error {
	flags.Notes = "Also decrypts what openssl pkeyutl -engine tpm -encrypt and Tspi_Data_Bind encrypted."
	flags.Example = "tpmctl decrypt -key maclef -in secret.bin"
	u := keyUseFlags(flags)
	if _, err := flags.Parse(args); err != nil {
		return err
	}
	prepare := func(k *blob.Key) ([]byte, error) {
		ciphertext, err := env.ReadInput(*u.in, maxCrypt, "ciphertext of one RSA key")
		if err != nil {
			return nil, err
		}
		return ciphertext, tpmkey.CheckDecrypt(k, ciphertext, nil)
	}
	use := func(k *tpmkey.Key, ciphertext []byte) ([]byte, error) { return k.Decrypt(nil, ciphertext, nil) }
	return u.run(env, cli.KeyMode, prepare, use)
}
