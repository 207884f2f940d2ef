// Tlsdemo serves HTTPS with a key in a TPM, as openssl s_server did with
// OpenSSL's TPM engine, and shows on a page what each connection used.
package main

import (
	"errors"
	"fmt"
	"io"
	"os"

	"maclef/internal/cli"
)

func main() { os.Exit(cli.Main("tlsdemo", run)) }

// options is the command line.
type options struct {
	keys    *cli.KeyFlags
	tpm     *cli.TPMFlag // these three are of keys
	key     *string
	keyPass *cli.SecretFlag
	cert    *string
	accept  address
}

func run(args []string, stdin io.Reader, stdout, stderr io.Writer) error {
	env := cli.NewEnv("tlsdemo", stdin, stdout, stderr)
	o, err := parse(env, args)
	if err != nil {
		return err
	}
	return demo(env, o)
}

func parse(env *cli.Env, args []string) (*options, error) {
	fs := env.Flags()
	fs.Purpose = "serve HTTPS with a key in a TPM, and show what each connection used"
	fs.Notes = "The page is HTML for browsers, text for curl, and JSON at /status. Requests are\n" +
		"logged on standard error.\n\n" +
		"Handshakes that take over 10 seconds are ended, connections idle for a minute\n" +
		"are closed. As many connections are open at a time as there are descriptors\n" +
		"(ulimit -n, less a few), at most 16384; for each one more, a silent or idle one\n" +
		"is closed, first of the clients that have the most.\n\n" +
		"Clients that hang up while they wait for the TPM cost it nothing, nor do those\n" +
		"that resume a session. When the TPM restarts, the key is loaded again. Other\n" +
		"programs can use the TPM meanwhile; a signature waits for them by -wait at most."
	fs.Example = "tlsdemo -accept 4433\n" +
		"tlsdemo -key maclef -cert moncert -accept localhost:0\n" +
		"curl --cacert moncert https://localhost:4433/"
	o := &options{accept: address{port: "4433"}}
	o.keys = fs.Key()
	o.tpm, o.key, o.keyPass = o.keys.TPM, o.keys.Path, o.keys.Secret
	o.cert = fs.Input("cert", "moncert", "certificate `FILE`, PEM, with its chain if it has one (default moncert)")
	fs.Var(&o.accept, "accept", "listen on `[HOST:]PORT`; PORT alone is on all interfaces, 0 any free port (default 4433)")
	if _, err := fs.Parse(args); err != nil {
		return nil, err
	}
	o.keyPass.Label = "Secret of " + *o.key
	return o, nil
}

// demo does everything that can fail before it listens, so that what is wrong
// with the key is found at start and not by the first client.
func demo(env *cli.Env, o *options) (err error) {
	files, err := readFiles(env, o)
	if err != nil {
		return err
	}
	tpm, err := env.OpenTPM(o.tpm)
	if err != nil {
		return err
	}
	// A key that stays loaded takes one of the few places of a chip.
	unwatch := cli.OnSignal(func() { tpm.Close() })
	defer func() {
		if closing := tpm.Close(); closing != nil {
			err = errors.Join(err, fmt.Errorf("free the key in the TPM: %w", closing))
		}
		unwatch()
	}()
	done := env.AwaitTPM(tpm.Name())
	id, err := identify(env, tpm, o, files)
	done()
	if err != nil {
		return err
	}
	listener, err := o.accept.listen()
	if err != nil {
		return err
	}
	stop := watchSignals()
	unwatch()
	fmt.Fprintf(env.Stderr, "tlsdemo: serving %s with %s; Ctrl-C stops\n", o.accept.url(listener.Addr()), id)
	return newServer(id, defaultLimits(), env.Stderr).serve(listener, stop)
}
