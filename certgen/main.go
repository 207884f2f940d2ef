// Certgen makes a certificate or a certificate request for a key in a TPM, and issues certificates
// and lists of revoked ones with such a key. It replaces openssl req -engine tpm.
package main

import (
	"encoding/pem"
	"fmt"
	"io"
	"os"
	"time"

	"maclef/blob"
	"maclef/internal/cli"
	"maclef/internal/roca"
	"maclef/tpmkey"
)

func main() { os.Exit(cli.Main("certgen", run)) }

// run first does everything that needs no TPM, so that a mistake costs no TPM command and no
// secret.
func run(args []string, stdin io.Reader, stdout, stderr io.Writer) error {
	env := cli.NewEnv("certgen", stdin, stdout, stderr)
	o, err := parse(env, args)
	if err != nil {
		return err
	}
	for _, name := range o.subject.skipped {
		env.Notef("no value for the subject attribute %s, left out", name)
	}
	file, alg, err := readKey(env, o)
	if err != nil {
		return err
	}
	if roca.Weak(file.PublicKey()) {
		env.Notef("%s: do not use this key: %s", nameOf(*o.key.Path, "standard input"), roca.Explanation)
	}
	work, err := prepare(env, o, file, alg, time.Now())
	if err != nil {
		return err
	}
	out, err := env.OpenOutput(*o.out, cli.CertMode, *o.force)
	if err != nil {
		return err
	}
	defer out.Abort()
	p, err := produce(env, o, file, work)
	if err != nil {
		return err
	}
	if _, err := out.Write(pem.EncodeToMemory(&pem.Block{Type: p.pemType, Bytes: p.der})); err != nil {
		return err
	}
	if err := out.Commit(); err != nil {
		return err
	}
	env.Notef("%s: %s", nameOf(*o.out, "standard output"), p.what)
	return nil
}

// produce opens the TPM, loads the key and signs.
func produce(env *cli.Env, o *options, file blob.Key, work job) (p *product, err error) {
	err = env.WithTPM(o.key.TPM, func(tpm *tpmkey.TPM) error {
		key, err := o.key.Load(tpm, file)
		if err != nil {
			return err
		}
		if p, err = work(key); err != nil {
			return fmt.Errorf("%s: %w", nameOf(*o.key.Path, "standard input"), err)
		}
		return nil
	})
	return p, err
}

// nameOf names a file in messages. std stands for "-".
func nameOf(path, std string) string {
	if path == "-" {
		return std
	}
	return path
}
