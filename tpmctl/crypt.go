package main

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"fmt"

	"maclef/blob"
	"maclef/internal/cli"
	"maclef/tpmkey"
)

// maxCrypt is the largest input of encrypt and decrypt, in bytes. No key takes more.
const maxCrypt = 512

const oaepNotes = "A key of a TPM 2.0 that has no scheme uses PKCS#1 v1.5, or OAEP with -oaep; -hash and -label must then be the same " +
	"for encrypting and decrypting. Other keys, and all keys of a TPM 1.2, have a scheme and need no flag."

// An oaep holds the flags for OAEP.
type oaep struct {
	on    *bool
	hash  *string
	label *string
	given func(flag string) bool
}

func oaepFlags(flags *cli.FlagSet) *oaep {
	return &oaep{
		on:    flags.Bool("oaep", "OAEP instead of PKCS#1 v1.5, for a key of a TPM 2.0"),
		hash:  flags.Choice("hash", "sha256", "with -oaep: `HASH`, as in tpmctl sign", hashNames[:len(hashNames)-1]...),
		label: flags.String("label", "", "with -oaep: `LABEL`, a text that both sides know"),
		given: flags.Given,
	}
}

// check refuses flags that have no effect.
func (o *oaep) check() error {
	for _, flag := range []string{"hash", "label"} {
		if !*o.on && o.given(flag) {
			return &cli.UsageError{Text: "-" + flag + " is for OAEP", Advice: "add -oaep"}
		}
	}
	return nil
}

// options returns nil for the key's own scheme.
func (o *oaep) options() crypto.DecrypterOpts {
	if !*o.on {
		return nil
	}
	return &rsa.OAEPOptions{Hash: hashByName[*o.hash], Label: []byte(*o.label)}
}

func encrypt(env *cli.Env, flags *cli.FlagSet, args []string) error {
	flags.Notes = "It encrypts at most 245 bytes for a 2048-bit PKCS#1 key, 209 for an OAEP key of a TPM 1.2, 190 with -oaep. For more, " +
		"encrypt the data with a random key, and that key with tpmctl. Only a persistent key (handle:0x81…) needs a TPM.\n\n" + oaepNotes
	flags.Example = "tpmctl encrypt -key maclef -in secret.txt -out secret.bin"
	key := &cli.KeyFlags{Path: flags.Input("key", "maclef", "key `FILE`, as in tpmctl decrypt"), Parent: new(cli.ParentFlag), Policy: new(cli.PolicyFlag), TPM: flags.TPM()}
	in := flags.Input("in", "-", "input `FILE`, - for standard input")
	padding := oaepFlags(flags)
	out := outputFlags(flags)
	if _, err := flags.Parse(args); err != nil {
		return err
	}
	if err := padding.check(); err != nil {
		return err
	}
	file, err := env.ReadKey(key)
	if err != nil {
		return err
	}
	message, err := env.ReadInput(*in, maxCrypt, "message for one RSA key")
	if err != nil {
		return err
	}
	defer clear(message)
	if len(message) == 0 {
		return cli.WithHint(errors.New("there is nothing to encrypt: the input is empty"), "check whether the command that writes the input failed")
	}
	ciphertext, err := padding.encrypt(file, message)
	if err != nil {
		return err
	}
	return out.write(env, cli.CertMode, ciphertext)
}

// encrypt encrypts for a key that decrypts with the same options.
func (o *oaep) encrypt(file blob.Key, message []byte) ([]byte, error) {
	opts, ok := o.options().(*rsa.OAEPOptions)
	if !ok {
		return tpmkey.Encrypt(file, message)
	}
	public, ok := file.PublicKey().(*rsa.PublicKey)
	if !ok { // tpmkey says why
		return tpmkey.Encrypt(file, message)
	}
	if err := tpmkey.CheckDecrypt(file, make([]byte, public.Size()), opts); err != nil {
		return nil, fmt.Errorf("encrypt: the TPM could not decrypt the result: %w", err)
	}
	ciphertext, err := rsa.EncryptOAEP(opts.Hash.New(), rand.Reader, public, message, opts.Label)
	if errors.Is(err, rsa.ErrMessageTooLong) {
		return nil, fmt.Errorf("encrypt: %d bytes are too many for this key, which takes %d with %s; encrypt a session key instead",
			len(message), max(0, public.Size()-2*opts.Hash.Size()-2), *o.hash)
	}
	if err != nil {
		return nil, fmt.Errorf("encrypt: %w", err)
	}
	return ciphertext, nil
}

func decrypt(env *cli.Env, flags *cli.FlagSet, args []string) error {
	flags.Notes = "It also decrypts the output of openssl pkeyutl -engine tpm -encrypt, openssl pkeyutl -encrypt -pubin and Tspi_Data_Bind.\n\n" + oaepNotes
	flags.Example = "tpmctl decrypt -key maclef -in secret.bin\ntpmctl decrypt -oaep -hash sha256 -in secret.bin"
	u := keyUseFlags(flags)
	padding := oaepFlags(flags)
	if _, err := flags.Parse(args); err != nil {
		return err
	}
	if err := padding.check(); err != nil {
		return err
	}
	prepare := func(k blob.Key) ([]byte, error) {
		ciphertext, err := env.ReadInput(*u.in, maxCrypt, "ciphertext of one RSA key")
		if err != nil {
			return nil, err
		}
		return ciphertext, tpmkey.CheckDecrypt(k, ciphertext, padding.options())
	}
	use := func(k *tpmkey.Key, ciphertext []byte) ([]byte, error) {
		return k.Decrypt(nil, ciphertext, padding.options())
	}
	return u.run(env, cli.KeyMode, prepare, use)
}
