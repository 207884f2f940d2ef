package main

import (
	"io/fs"

	"maclef/blob"
	"maclef/internal/cli"
	"maclef/tpmkey"
)

// keyUse has the flags of subcommands that use a key in the TPM.
type keyUse struct {
	key *cli.KeyFlags
	in  *string
	out *output
}

func keyUseFlags(flags *cli.FlagSet) *keyUse {
	return &keyUse{
		key: flags.Key(),
		in:  flags.Input("in", "-", "input `FILE`, - for standard input"),
		out: outputFlags(flags),
	}
}

// run reads the input with prepare, makes the output with use, and writes it. Everything that can
// fail without the TPM comes first. The key is unloaded before the output is written, because
// writing can take long.
func (u *keyUse) run(env *cli.Env, mode fs.FileMode, prepare func(blob.Key) ([]byte, error), use func(*tpmkey.Key, []byte) ([]byte, error)) error {
	file, err := env.ReadKey(u.key)
	if err != nil {
		return err
	}
	in, err := prepare(file)
	if err != nil {
		return err
	}
	out, err := u.out.open(env, mode)
	if err != nil {
		return err
	}
	defer out.Abort()
	data, err := u.operate(env, file, in, use)
	if err != nil {
		return err
	}
	defer clear(data)
	return finish(out, data)
}

func (u *keyUse) operate(env *cli.Env, file blob.Key, in []byte, use func(*tpmkey.Key, []byte) ([]byte, error)) (out []byte, err error) {
	err = env.WithTPM(u.key.TPM, func(tpm *tpmkey.TPM) error {
		key, err := u.key.Load(tpm, file)
		if err != nil {
			return err
		}
		out, err = use(key, in)
		return err
	})
	return out, err
}
