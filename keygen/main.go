// Keygen makes a key in a TPM and writes its key file, as create_tpm_key of
// OpenSSL's TPM engine did.
package main

import (
	"io"
	"os"

	"maclef/blob"
	"maclef/internal/cli"
	"maclef/tpmkey"
)

func main() { os.Exit(cli.Main("keygen", run)) }

// options is the command line.
type options struct {
	tpm                               *cli.TPMFlag
	enc, sig, size                    *string
	auth, popup, force                *bool
	wrap                              *string
	srk, key, owner, migration, inPwd *cli.SecretFlag
	out                               string
	sizeGiven                         bool
}

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

func parse(env *cli.Env, args []string) (*options, error) {
	fs := env.Flags()
	fs.Purpose = "make an RSA key in a TPM 1.2 and write its key file (TSS KEY BLOB)"
	fs.Args = []string{"FILE"}
	fs.Notes = "The key signs and decrypts. What is in FILE (- for standard output) is of no use without this TPM.\n" +
		"With -wrap the key has existed outside the TPM, and whoever kept a copy has it."
	fs.Example = "keygen maclef\nkeygen -a -e oaep secretkey\nkeygen -w private.pem wrapped"
	o := &options{
		tpm:   fs.TPM(),
		enc:   fs.Choice("e|enc-scheme", "pkcs1v15", "encryption `SCHEME`: pkcs1v15 or oaep", "pkcs1v15", "oaep"),
		sig:   fs.Choice("q|sig-scheme", "der", "signature `SCHEME`: der (any hash) or sha1 (SHA-1 only)", "der", "sha1"),
		size:  fs.Choice("s|key-size", "2048", "`BITS`: 2048, 1024 or 512", "2048", "1024", "512"),
		auth:  fs.Bool("a|auth", "give the key a secret of its own"),
		popup: fs.Bool("p|popup", "ask for that secret in a window, as UTF-16 like a TSS; implies -a"),
		wrap:  fs.Input("w|wrap", "", "wrap the existing RSA private key in `FILE` (PKCS#1 or PKCS#8, PEM or DER)"),
		force: fs.Bool("force", "replace FILE if it exists"),
		srk:   fs.SRKPass(),
		key: fs.Secret("key-pass", cli.SecretOptions{Default: "prompt", Label: "New secret of the key", New: true},
			"`SECRET` of the new key; implies -a"),
		owner: fs.Secret("owner-pass", cli.SecretOptions{Default: "prompt", Label: "Secret of the TPM's owner"},
			"`SECRET` of the TPM's owner, for -w where the SRK is not readable"),
		migration: fs.Secret("migration-pass", cli.SecretOptions{Default: "prompt", Label: "New migration secret of the key", New: true},
			"migration `SECRET` of a wrapped key (default: a random one that nobody knows)"),
		inPwd: fs.Secret("wrap-pass", cli.SecretOptions{Default: "prompt", Label: "Password of the private key", Text: true},
			"password of the private key file, if it is encrypted: a `SECRET`"),
	}
	operands, err := fs.Parse(args)
	if err != nil {
		return nil, err
	}
	o.out, o.sizeGiven = operands[0], fs.Given("s")
	return o, o.check()
}

// check refuses flags that contradict each other.
func (o *options) check() error {
	wrapping := *o.wrap != ""
	switch {
	case wrapping && o.sizeGiven:
		return cli.Usagef("-s cannot be given with -w: a wrapped key keeps its size")
	case !wrapping && o.owner.Given():
		return cli.Usagef("-owner-pass is for -w only")
	case !wrapping && o.migration.Given():
		return cli.Usagef("-migration-pass is for -w only")
	case !wrapping && o.inPwd.Given():
		return cli.Usagef("-wrap-pass is for -w only")
	}
	if *o.popup {
		return o.key.UsePopup()
	}
	return nil
}

// create makes the key in the TPM. The output is opened first: a chip can need
// a minute, and a key that cannot be written is lost.
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

func createKey(env *cli.Env, o *options) (key *blob.Key, err error) {
	err = env.WithTPM(o.tpm, func(tpm *tpmkey.TPM) (err error) {
		opts := o.createOptions()
		defer env.Progress("making a " + *o.size + "-bit key in the TPM; a chip can take a minute")()
		key, err = tpm.Create(&opts)
		return err
	})
	return key, err
}

func (o *options) createOptions() tpmkey.CreateOptions {
	opts := tpmkey.CreateOptions{
		Bits: bits[*o.size], EncScheme: encSchemes[*o.enc], SigScheme: sigSchemes[*o.sig], SRK: o.srk.Secret(),
	}
	if *o.auth || *o.popup || o.key.Given() {
		opts.Key = o.key.Secret()
	}
	return opts
}

var (
	bits       = map[string]int{"512": 512, "1024": 1024, "2048": 2048}
	encSchemes = map[string]blob.EncScheme{"pkcs1v15": blob.ESRSAESPKCSv15, "oaep": blob.ESRSAESOAEPSHA1MGF1}
	sigSchemes = map[string]blob.SigScheme{"der": blob.SSRSASSAPKCS1v15DER, "sha1": blob.SSRSASSAPKCS1v15SHA1}
)

// save writes the key file. A key that cannot be written is shown on standard
// error: the TPM keeps no copy.
func save(env *cli.Env, out *cli.Output, key *blob.Key) error {
	data, err := key.Marshal(blob.PEM)
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
	return err
}
