// Ecryptmount mounts an eCryptfs directory and unwraps its file keys with a key in a TPM. It
// replaces ecryptfsd and mount -t ecryptfs with the openssl key module.
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
	status int // the background process has printed its error
}

func (p *program) run(args []string, stdin io.Reader, stdout, stderr io.Writer) (err error) {
	if wantsFork(args) {
		p.status, err = startBackground(args)
		return err
	}
	out := &messageWriter{w: stderr}
	env := cli.NewEnv("ecryptmount", stdin, stdout, out)
	o, err := parse(env, revealSecrets(args))
	if err != nil {
		return err
	}
	return mount(env, o, newBackground(out))
}
