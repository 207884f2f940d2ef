// Keygen makes a key in a TPM and writes its key file. It replaces create_tpm_key of OpenSSL's TPM
// engine (TPM 1.2) and create_tpm2_key (TPM 2.0).
package main

import (
	"context"
	"io"
	"os"

	"maclef/blob"
	"maclef/internal/cli"
	"maclef/internal/roca"
	"maclef/tpmkey"
)

func main() { os.Exit(cli.Main("keygen", run)) }

func run(args []string, stdin io.Reader, stdout, stderr io.Writer) error {
	env := cli.NewEnv("keygen", stdin, stdout, stderr)
	o, err := parse(env, args)
	if err != nil {
		return err
	}
	if *o.wrap != "" {
		return wrap(env, o)
	}
	return create(env, o)
}

// create makes the key in the TPM. It opens the output first: a chip can need a minute for a key,
// and a key that cannot be written is lost.
func create(env *cli.Env, o *options) error {
	out, err := env.OpenOutput(o.out, cli.KeyMode, *o.force)
	if err != nil {
		return err
	}
	defer out.Abort()
	key, err := createKey(env, o)
	if err != nil {
		return err
	}
	return save(env, out, key)
}

func createKey(env *cli.Env, o *options) (key blob.Key, err error) {
	err = env.WithTPM(o.tpm, func(tpm *tpmkey.TPM) error {
		opts, err := o.createOptions(tpm)
		if err != nil {
			return err
		}
		defer env.Progress("making " + o.keyText() + " in the TPM; a chip can take a minute")()
		key, err = tpm.Create(context.Background(), opts)
		return err
	})
	return key, err
}

// save writes the key file. If that fails it prints the file on standard error, because the TPM
// keeps no copy.
func save(env *cli.Env, out *cli.Output, key blob.Key) error {
	data, err := key.Marshal(key.Container())
	if err != nil {
		return err
	}
	_, err = out.Write(data)
	if err == nil {
		err = out.Commit()
	}
	if err != nil {
		env.Notef("the key was made but could not be written; here is its file, to save by hand:")
		env.Stderr.Write(data)
	}
	if roca.Weak(key.PublicKey()) {
		env.Notef("do not use this key: %s; use an ECC key, or an RSA key that openssl made (-w)", roca.Explanation)
	}
	return err
}
