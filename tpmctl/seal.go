package main

import (
	"context"
	"errors"

	"maclef/blob"
	"maclef/internal/cli"
	"maclef/internal/roca"
	"maclef/tpmkey"
)

type sealCommand struct {
	tpm         *cli.TPMFlag
	in          *string
	out         *output
	policy      *cli.PolicyFlag
	parent      *cli.ParentFlag
	srk, secret *cli.SecretFlag
}

func seal(env *cli.Env, flags *cli.FlagSet, args []string) error {
	flags.Notes = "Only this TPM opens the output file. Whoever can use the TPM and read the file gets the data, unless " +
		"-key-pass or -policy protects it; with both, both are needed.\n\n" +
		"A TPM 2.0 seals 1 to 128 bytes, such as a key or a password, as a TSS2 PRIVATE KEY like that of openssl_tpm2_engine's " +
		"seal_tpm2_data. A TPM 1.2 seals up to 8 MiB, as a file of tpm-tools' tpm_sealdata, which tpm_unsealdata opens if it has no " +
		"-key-pass. It makes a storage key for that, which can take a minute."
	flags.Example = "tpmctl seal -in secret -out sealed.tss\ntpmctl seal -policy pcr:sha256:7 -in secret -out sealed.tss"
	s := &sealCommand{
		tpm: flags.TPM(), in: flags.Input("in", "-", "input `FILE`, - for standard input"), out: outputFlags(flags), policy: flags.SealPolicy(),
		parent: flags.Parent("TPM 2.0: seal it under this `PARENT`, a handle (0x81…) or a hierarchy's primary key: owner (the default), endorsement, platform, null"),
		srk:    flags.SRKPass(),
		secret: flags.Secret("key-pass", cli.SecretOptions{Default: "prompt", Label: "New secret of the sealed data", New: true},
			"`SECRET` for the sealed data (default none)"),
	}
	if _, err := flags.Parse(args); err != nil {
		return err
	}
	data, err := env.ReadInput(*s.in, blob.MaxSealed12, "secret to seal; seal a key, and encrypt the rest with that")
	if err != nil {
		return err
	}
	defer clear(data)
	if len(data) == 0 {
		return cli.WithHint(errors.New("there is nothing to seal: the input is empty"), "check whether the command that writes the input failed")
	}
	return s.run(env, data)
}

func (s *sealCommand) run(env *cli.Env, data []byte) error {
	out, err := s.out.open(env, cli.KeyMode)
	if err != nil {
		return err
	}
	defer out.Abort()
	opts := &tpmkey.SealOptions{ParentAuth: s.srk.Secret(), Policy: s.policy.Policy, Parent: s.parent.Handle, MovableParent: s.parent.Movable}
	if s.secret.Given() {
		opts.Auth = s.secret.Secret()
	}
	var sealed blob.Key
	err = env.WithTPM(s.tpm, func(tpm *tpmkey.TPM) (err error) {
		sealed, err = tpm.Seal(context.Background(), data, opts)
		return err
	})
	if err != nil {
		return err
	}
	if old, ok := sealed.(*blob.TPMSealed); ok && roca.Weak(old.Key.PublicKey()) {
		env.Notef("%s", weakStorageKey)
	}
	text, err := sealed.Marshal(sealed.Container())
	if err != nil {
		return err
	}
	return finish(out, text)
}

func unseal(env *cli.Env, flags *cli.FlagSet, args []string) error {
	flags.Notes = "It opens the output of tpmctl seal, of openssl_tpm2_engine's seal_tpm2_data, of tpm2-tools' tpm2_create -i and of " +
		"tpm-tools' tpm_sealdata."
	flags.Example = "tpmctl unseal -in sealed.tss -out secret"
	u := &cli.KeyFlags{
		Path: flags.Input("in|key", "-", "sealed `FILE`, - for standard input; NAME.pub for the files NAME.pub and NAME.priv of tpm2-tools; "+
			"0x81… or handle:0x81… for persistent data"),
		Parent: flags.Parent("TPM 2.0: the `PARENT` it was sealed under, instead of the one in the file: a handle (0x81…) or owner"),
		Policy: flags.KeyPolicy(),
		TPM:    flags.TPM(), SRK: flags.SRKPass(), Secret: flags.KeyPass(),
	}
	u.Secret.Label = "Secret of the sealed data"
	output := outputFlags(flags)
	if _, err := flags.Parse(args); err != nil {
		return err
	}
	file, err := env.ReadSealed(u)
	if err != nil {
		return err
	}
	out, err := output.open(env, cli.KeyMode)
	if err != nil {
		return err
	}
	defer out.Abort()
	data, err := openSealed(env, u, file)
	if err != nil {
		return err
	}
	defer clear(data)
	return finish(out, data)
}

func openSealed(env *cli.Env, u *cli.KeyFlags, file blob.Key) (data []byte, err error) {
	err = env.WithTPM(u.TPM, func(tpm *tpmkey.TPM) error {
		opts, err := u.Options(tpm, file)
		if err != nil {
			return err
		}
		data, err = tpm.Unseal(context.Background(), file, opts)
		return err
	})
	return data, err
}
