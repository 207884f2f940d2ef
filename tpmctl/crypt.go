package main

import (
	"crypto"
	"crypto/rsa"
	"errors"
	"fmt"

	"maclef/blob"
	"maclef/internal/chip"
	"maclef/internal/cli"
	"maclef/tpmkey"
)

// Limits of inputs in bytes. No key takes more than maxCiphertext, nor as much as maxMessage: the
// error about a message that is too long gives the limit of the key.
const (
	maxCiphertext = 512
	maxMessage    = 1 << 20
)

// sessionKey is the advice about a message that is too long.
const sessionKey = "encrypt a random key instead, and the message with that: (umask 077; tpmctl random -hex 32 >KEY); " +
	"openssl enc -aes-256-cbc -pbkdf2 -pass file:KEY -in MESSAGE -out MESSAGE.enc; tpmctl encrypt -in KEY -out KEY.enc"

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

// checkDecrypt is tpmkey.CheckDecrypt with a hint.
func (o *oaep) checkDecrypt(file blob.Key, ciphertext []byte) error {
	err := tpmkey.CheckDecrypt(file, ciphertext, o.options())
	if err != nil && *o.on && tpmkey.CheckDecrypt(file, ciphertext, nil) == nil {
		return cli.WithHint(err, "leave out -oaep, -hash and -label: this key has a scheme of its own")
	}
	return err
}

// refused says of a ciphertext that the TPM did not decrypt with which scheme it was tried.
func (o *oaep) refused(file blob.Key, ciphertext []byte, err error) error {
	scheme, hint := "PKCS#1 v1.5", "-oaep, -hash and -label must be as they were for encrypting; -oaep alone means -hash sha256 and no label"
	switch {
	case *o.on:
		scheme = fmt.Sprintf("OAEP, %s, label %q", *o.hash, *o.label)
	case tpmkey.CheckDecrypt(file, ciphertext, &rsa.OAEPOptions{Hash: crypto.SHA256}) != nil:
		scheme, hint = "its own scheme", "it was encrypted for another key or with another scheme; tpmctl inspect shows that of the key"
	}
	return cli.WithHint(chip.WithText("decrypt: it does not decrypt with this key and "+scheme, err), hint)
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
	message, err := env.ReadInput(*in, maxMessage, "message for one RSA key")
	if err != nil {
		return err
	}
	defer clear(message)
	if len(message) == 0 {
		return cli.WithHint(errors.New("there is nothing to encrypt: the input is empty"), "check whether the command that writes the input failed")
	}
	ciphertext, err := padding.encrypt(file, message)
	if errors.Is(err, rsa.ErrMessageTooLong) {
		return cli.WithHint(err, sessionKey)
	}
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
	if err := o.checkDecrypt(file, make([]byte, public.Size())); err != nil {
		return nil, fmt.Errorf("encrypt: the TPM could not decrypt the result: %w", err)
	}
	ciphertext, err := (&chip.Encryption{OAEP: opts.Hash, Label: *o.label}).Encrypt(public, message)
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
		ciphertext, err := env.ReadInput(*u.in, maxCiphertext, "ciphertext of one RSA key")
		if err != nil {
			return nil, err
		}
		return ciphertext, padding.checkDecrypt(k, ciphertext)
	}
	use := func(k *tpmkey.Key, ciphertext []byte) ([]byte, error) {
		plain, err := k.Decrypt(nil, ciphertext, padding.options())
		if errors.Is(err, rsa.ErrDecryption) {
			err = padding.refused(k.File(), ciphertext, err)
		}
		return plain, err
	}
	return u.run(env, cli.KeyMode, prepare, use)
}
