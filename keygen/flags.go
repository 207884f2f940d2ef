package main

import (
	"fmt"
	"strings"

	"maclef/blob"
	"maclef/internal/cli"
	"maclef/tpmkey"
)

type options struct {
	fs                                *cli.FlagSet
	tpm                               *cli.TPMFlag
	kind, enc, sig, size              *string
	policy                            *cli.PolicyFlag
	parent                            *cli.ParentFlag
	auth, popup, force                *bool
	wrap                              *string
	srk, key, owner, migration, inPwd *cli.SecretFlag
	out                               string
}

const notes = "FILE (- for standard output) becomes a TSS KEY BLOB (TPM 1.2) or a TSS2 PRIVATE KEY (TPM 2.0). It is of no use without this TPM. " +
	"An RSA key signs and decrypts; an ECC key signs and agrees on secrets (ECDH). A key of a TPM 2.0 has no fixed scheme: the program that uses it " +
	"chooses scheme and hash. A key from -wrap has existed outside the TPM, and whoever has a copy can use it.\n\n" +
	"tpmctl status lists the types of keys of a TPM 2.0.\n\n" +
	"A key with -policy and a secret needs both (auth is then its last step, unless -policy has it). PCRs record how the machine was started: after a change, such as an update " +
	"of the firmware or the boot loader, a key that is bound to them does not work any more."

func parse(env *cli.Env, args []string) (*options, error) {
	fs := env.Flags()
	fs.Purpose = "make a key in a TPM and write its key file"
	fs.Args = []string{"FILE"}
	fs.Notes = notes
	fs.Example = "keygen maclef\nkeygen -type p256 -a webkey\nkeygen -w private.pem wrapped\n" +
		"keygen -type rsa3072 -policy pcr:sha256:7 bootkey\nkeygen -a -e oaep secretkey"
	o := &options{fs: fs}
	o.define(fs)
	operands, err := fs.Parse(args)
	if err != nil {
		return nil, err
	}
	o.out = operands[0]
	return o, o.check()
}

func (o *options) define(fs *cli.FlagSet) {
	o.kind = fs.Choice("type", "rsa2048", "`TYPE` of key: rsa2048, rsa3072, rsa4096, p256, p384, p521; for a TPM 1.2 rsa2048, rsa1024, rsa512",
		"rsa2048", "rsa3072", "rsa4096", "p256", "p384", "p521", "rsa1024", "rsa512")
	o.policy = fs.Policy()
	o.parent = fs.Parent("TPM 2.0: make it under this `PARENT`, a handle (0x81…) or a hierarchy's primary key: owner (the default), endorsement, platform, null")
	o.auth = fs.Bool("a|auth", "give the key a secret of its own")
	o.key = fs.Secret("key-pass", cli.SecretOptions{Default: "prompt", Label: "New secret of the key", New: true},
		"`SECRET` of the new key; implies -a")
	o.popup = fs.Bool("p|popup", "ask for that secret in a window; implies -a. A TPM 1.2 gets it as UTF-16, as a TSS does, a TPM 2.0 as UTF-8")
	o.wrap = fs.Input("w|wrap", "", "wrap the existing RSA or ECDSA private key in `FILE` (PKCS#1, SEC 1 or PKCS#8, PEM or DER)")
	o.inPwd = fs.Secret("wrap-pass", cli.SecretOptions{Default: "prompt", Label: "Password of the private key", Text: true},
		"password of the private key file, if it is encrypted: a `SECRET`")
	o.force = fs.Bool("force", "replace FILE if it exists")
	o.tpm = fs.TPM()
	o.srk = fs.SRKPass()
	o.size = fs.Choice("s|key-size", "2048", "TPM 1.2: size in `BITS`: 2048, 1024 or 512", "2048", "1024", "512")
	o.enc = fs.Choice("e|enc-scheme", "pkcs1v15", "TPM 1.2: encryption `SCHEME`: pkcs1v15 or oaep", "pkcs1v15", "oaep")
	o.sig = fs.Choice("q|sig-scheme", "der", "TPM 1.2: signature `SCHEME`: der (any hash) or sha1 (SHA-1 only)", "der", "sha1")
	o.owner = fs.Secret("owner-pass", cli.SecretOptions{Default: "prompt", Label: "Secret of the TPM's owner"},
		"TPM 1.2: `SECRET` of the TPM's owner, for -w if the SRK cannot be read")
	o.migration = fs.Secret("migration-pass", cli.SecretOptions{Default: "prompt", Label: "New migration secret of the key", New: true},
		"TPM 1.2: migration `SECRET` of a wrapped key (default: a random one that nobody knows)")
}

// check refuses flags that contradict each other.
func (o *options) check() error {
	wrapping := *o.wrap != ""
	switch {
	case wrapping && o.fs.Given("s"):
		return cli.Usagef("-s cannot be given with -w: a wrapped key keeps its size")
	case wrapping && o.fs.Given("type"):
		return cli.Usagef("-type cannot be given with -w: a wrapped key keeps its type")
	case o.fs.Given("s") && o.fs.Given("type"):
		return cli.Usagef("-s and -type both say how large the key is: leave out -s")
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

// forTPM12 and forTPM20 are flags for one generation of TPM, each with a hint for users of the
// other.
var (
	forTPM12 = [][2]string{
		{"s", "leave it out, or use -type rsa2048, rsa3072 or rsa4096"},
		{"e", "leave it out: the key decrypts with every scheme; choose with tpmctl decrypt -oaep"},
		{"q", "leave it out: the key signs with every scheme; choose with tpmctl sign -hash and -pss"},
		{"owner-pass", "leave it out; -srk-pass gives the secret of the owner's hierarchy"},
		{"migration-pass", "leave it out: the key cannot be moved to another TPM"},
	}
	forTPM20 = [][2]string{
		{"policy", "leave it out"},
		{"parent", "leave it out: all keys are under the SRK"},
		{"movable-parent", "leave it out: all keys are under the SRK"},
	}
)

// checkFor refuses flags for the other generation of TPM.
func (o *options) checkFor(family string) error {
	refused, other := forTPM12, "1.2"
	if family == "1.2" {
		refused, other = forTPM20, "2.0"
	}
	for _, flag := range refused {
		if o.fs.Given(flag[0]) {
			return cli.WithHint(fmt.Errorf("%w: -%s is for TPM %s, and this is a TPM %s", tpmkey.ErrNotSupported, flag[0], other, family), flag[1])
		}
	}
	return nil
}

// createOptions converts the flags to options for tpm.
func (o *options) createOptions(tpm *tpmkey.TPM) (*tpmkey.CreateOptions, error) {
	family := tpm.Family()
	if err := o.checkFor(family); err != nil {
		return nil, err
	}
	opts := &tpmkey.CreateOptions{ParentAuth: o.srk.Secret(), Policy: o.policy.Policy, Parent: o.parent.Handle, MovableParent: o.parent.Movable}
	if family == "1.2" {
		opts.EncScheme, opts.SigScheme = encSchemes[*o.enc], sigSchemes[*o.sig]
	}
	switch {
	case o.fs.Given("s"):
		opts.Bits = bits[*o.size]
	case *o.wrap == "":
		opts.Type = tpmkey.KeyType(*o.kind)
	}
	if *o.popup && family != "1.2" {
		o.key.AsUTF8()
	}
	if *o.auth || *o.popup || o.key.Given() {
		opts.Auth = o.key.Secret()
	}
	return opts, nil
}

// keyText describes the new key for messages.
func (o *options) keyText() string {
	if o.fs.Given("s") {
		return "a " + *o.size + "-bit RSA key"
	}
	if size, ok := strings.CutPrefix(*o.kind, "rsa"); ok {
		return "a " + size + "-bit RSA key"
	}
	return "a P-" + strings.TrimPrefix(*o.kind, "p") + " key"
}

var (
	bits       = map[string]int{"512": 512, "1024": 1024, "2048": 2048}
	encSchemes = map[string]blob.EncScheme{"pkcs1v15": blob.ESRSAESPKCSv15, "oaep": blob.ESRSAESOAEPSHA1MGF1}
	sigSchemes = map[string]blob.SigScheme{"der": blob.SSRSASSAPKCS1v15DER, "sha1": blob.SSRSASSAPKCS1v15SHA1}
)
