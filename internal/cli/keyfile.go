package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"

	"maclef/blob"
	"maclef/internal/keyfile"
	"maclef/internal/policy"
	"maclef/tpmkey"
)

// KeyFlags are the flags that say which key to use, in which TPM, and with which secrets.
type KeyFlags struct {
	TPM  *TPMFlag
	Path *string // of the key file, "-", "0x81…", "handle:0x81…", or one file of a tpm2-tools pair

	Parent      *ParentFlag
	Policy      *PolicyFlag
	SRK, Secret *SecretFlag
}

// Key defines -key, -parent, -policy, -tpm, -wait, -srk-pass and -key-pass.
func (fs *FlagSet) Key() *KeyFlags {
	return &KeyFlags{
		Path: fs.Input("key", "maclef", "key `FILE`, - for standard input; NAME.pub if tpm2-tools made NAME.pub and NAME.priv; "+
			"0x81… or handle:0x81… for a key that a TPM 2.0 keeps itself (default maclef)"),
		Parent: fs.Parent("TPM 2.0: the key's `PARENT`, a handle (0x81…) or owner, instead of what the file says"),
		Policy: fs.KeyPolicy(),
		TPM:    fs.TPM(), SRK: fs.SRKPass(), Secret: fs.KeyPass(),
	}
}

// ReadKey reads the key that the flags name. It returns an error if the file is not a
// usable key. It opens the TPM only for a key that the TPM keeps.
func (e *Env) ReadKey(f *KeyFlags) (blob.Key, error) {
	file, err := e.ReadKeyFile(*f.Path, f.TPM, "keygen")
	if err != nil {
		return nil, err
	}
	if err := f.CheckFile(file); err != nil {
		return nil, err
	}
	return file, CheckKey(*f.Path, file)
}

// CheckFile returns an error if -parent or -policy is given for a file that has none to replace.
func (f *KeyFlags) CheckFile(file blob.Key) error {
	t, ok := file.(*blob.TSS2)
	if !ok && f.Policy.Policy != nil {
		return WithHint(fmt.Errorf("%s: not a key of a TPM 2.0, and -policy is only for those", inputName(*f.Path)), "leave out -policy")
	}
	switch {
	case f.Parent.Handle == 0:
		return nil
	case !ok:
		return WithHint(fmt.Errorf("%s: not a key file of a TPM 2.0, and -parent is only for those", inputName(*f.Path)), "leave out -parent")
	case t.Handle != 0:
		return WithHint(fmt.Errorf("%s: the TPM keeps this key itself, at %#x, and needs no parent for it", inputName(*f.Path), t.Handle), "leave out -parent")
	}
	return nil
}

// CheckKey returns an error for a TPM 2.0 file that contains no key, or a key that cannot
// be used.
func CheckKey(path string, file blob.Key) error {
	if file.Sealed() {
		return WithHint(fmt.Errorf("%s: this is sealed data, not a key", inputName(path)), "tpmctl unseal -in "+path+" gives the data")
	}
	if err := file.Unsupported(); err != nil {
		return WithHint(fmt.Errorf("%s: %w", inputName(path), err), "tpmctl inspect says what is in it; make another key with keygen")
	}
	return nil
}

// ReadSealed is ReadKey for sealed data.
func (e *Env) ReadSealed(f *KeyFlags) (blob.Key, error) {
	file, err := e.ReadKeyFile(*f.Path, f.TPM, "tpmctl seal -out")
	var other *blob.NotKeyError
	switch {
	case errors.As(err, &other) && other.Half == blob.NoHalf:
		return nil, WithHint(fmt.Errorf("%s: %s, not sealed data", inputName(*f.Path), cmp.Or(other.What, "a file of another kind")), "tpmctl seal makes sealed data")
	case err != nil:
		return nil, err
	}
	if err := f.CheckFile(file); err != nil {
		return nil, err
	}
	if !file.Sealed() {
		return nil, WithHint(fmt.Errorf("%s: this is a key, not sealed data", inputName(*f.Path)),
			"use it with tpmctl sign or tpmctl decrypt; tpmctl inspect says what it can do")
	}
	return file, nil
}

// ReadKeyFile reads a key file, standard input for "-", or both files of a tpm2-tools pair
// if path is one of them. It needs no TPM for that. For "0x81…" or "handle:0x81…" it opens the TPM
// that which names, and reads the key that the TPM keeps there. maker is the command that makes
// such a file, for the hint about a missing one.
func (e *Env) ReadKeyFile(path string, which *TPMFlag, maker string) (blob.Key, error) {
	if handle, ok, err := tpmkey.ParseHandle(path); ok {
		if err != nil {
			return nil, &UsageError{Text: err.Error(), Advice: "as in 0x81000001; tpmctl status lists the keys that the TPM keeps"}
		}
		return e.readHandle(handle, which)
	}
	file, err := keyfile.Read(path, inputName(path), func(path string) ([]byte, error) { return e.ReadInput(path, keyfile.Limit, "key file") })
	var pair *keyfile.PairError
	switch {
	case errors.As(err, &pair):
		return nil, WithHint(err, "put "+pair.Other+" beside it")
	case errors.Is(err, fs.ErrNotExist):
		return nil, WithHint(err, "name the file, or make one: "+maker+" "+path)
	}
	return file, err
}

func (e *Env) readHandle(handle uint32, which *TPMFlag) (file blob.Key, err error) {
	err = e.WithTPM(which, func(tpm *tpmkey.TPM) (err error) {
		file, err = tpm.ReadHandle(context.Background(), handle)
		return err
	})
	return file, err
}

// Load loads a key that ReadKey has read.
func (f *KeyFlags) Load(tpm *tpmkey.TPM, file blob.Key) (*tpmkey.Key, error) {
	if *f.Path != "-" {
		f.Secret.Label = "Secret of the key " + *f.Path
	}
	opts, err := f.Options(tpm, file)
	if err != nil {
		return nil, err
	}
	return tpm.Load(context.Background(), file, opts)
}

// Options returns the options to load a file that ReadKey has read.
func (f *KeyFlags) Options(tpm *tpmkey.TPM, file blob.Key) (*tpmkey.LoadOptions, error) {
	opts := &tpmkey.LoadOptions{
		Name: inputName(*f.Path), ParentAuth: f.SRK.Secret(), Auth: f.Secret.Secret(), Parent: f.Parent.Handle, MovableParent: f.Parent.Movable, Policy: f.Policy.Policy,
	}
	early := false // nobody would ask for a given secret: the file says that there is none, or the empty one is tried first
	switch k := file.(type) {
	case *blob.TPMSealed:
		early = !k.NeedsSecret()
	case *blob.TSS2:
		if tpm.Family() == "2.0" {
			f.label20(k)
			early = k.EmptyAuth || !k.CountsTries()
		}
	}
	if early && f.Secret.Given() {
		secret, err := f.Secret.Resolve()
		if err != nil {
			return nil, err
		}
		opts.Auth = secret
	}
	return opts, nil
}

// label20 makes the prompt say whose secret it asks for, and whether there may be none.
func (f *KeyFlags) label20(k *blob.TSS2) {
	switch owner := policy.SecretOwner(policy.Recognise(k)); {
	case owner != "" && f.Policy.Policy == nil:
		f.Secret.Label = fmt.Sprintf("Secret of %s, which the policy of %s asks for", owner, inputName(*f.Path))
	case !k.CountsTries(): // the empty one was tried before the prompt
		f.Secret.NoPromptHint = ""
	case k.Guessed() || k.Handle != 0:
		f.Secret.Label += " (Enter if it has none)"
	}
}
