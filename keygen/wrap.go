package main

import (
	"context"
	"crypto"
	"fmt"

	"maclef/blob"
	"maclef/internal/cli"
	"maclef/internal/pemkey"
	"maclef/tpmkey"
)

// wrap makes a key file from an existing private key.
func wrap(env *cli.Env, o *options) error {
	pem, err := env.ReadInput(*o.wrap, cli.PrivateKeyFileLimit, "private key file")
	if err != nil {
		return err
	}
	defer clear(pem)
	out, err := env.OpenOutput(o.out, cli.KeyMode, *o.force)
	if err != nil {
		return err
	}
	defer out.Abort()
	private, err := pemkey.Parse(pem, o.inPwd.Text)
	if err != nil {
		return fmt.Errorf("%s: %w", nameOf(*o.wrap), err)
	}
	key, err := wrapKey(env, o, private)
	if err != nil {
		return err
	}
	if err := save(env, out, key); err != nil {
		return err
	}
	env.Notef("destroy %s and its copies once the key file works: they are the key, too", nameOf(*o.wrap))
	return nil
}

func wrapKey(env *cli.Env, o *options, private crypto.PrivateKey) (key blob.Key, err error) {
	err = env.WithTPM(o.tpm, func(tpm *tpmkey.TPM) error {
		create, err := o.createOptions(tpm)
		if err != nil {
			return err
		}
		opts := &tpmkey.WrapOptions{CreateOptions: *create, OwnerAuth: o.owner.Secret()}
		if o.migration.Given() {
			opts.MigrationAuth = o.migration.Secret()
		}
		key, err = tpm.Wrap(context.Background(), private, opts)
		return err
	})
	return key, err
}

// nameOf names an input file in messages.
func nameOf(path string) string {
	if path == "-" {
		return "the private key"
	}
	return path
}
