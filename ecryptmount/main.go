// Ecryptmount mounts an eCryptfs directory whose file keys are wrapped with a key
// in a TPM, and answers for it: what mount -t ecryptfs with its openssl key module
// and ecryptfsd did, but from the key file itself.
package main

import (
	"io"
	"os"

	"maclef/internal/cli"
)

func main() {
	var p program
	status := cli.Main("ecryptmount", p.run)
	os.Exit(max(status, p.status))
}

// A program is one run of the command.
type program struct {
	status int // of a background process that failed; it has said why itself
}

func (p *program) run(args []string, stdin io.Reader, stdout, stderr io.Writer) (err error) {
	if wantsFork(args) {
		p.status, err = startBackground(args)
		return err
	}
	out := &outlet{w: stderr}
	env := cli.NewEnv("ecryptmount", stdin, stdout, out)
	o, err := parse(env, args)
	if err != nil {
		return err
	}
	return mount(env, o, newBackground(out))
}
