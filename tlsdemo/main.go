// Tlsdemo serves HTTPS with a key in a TPM, as openssl s_server did with OpenSSL's TPM
// engine. Its page shows what each connection used.
package main

import (
	"errors"
	"fmt"
	"io"
	"os"

	"maclef/internal/cli"
	"maclef/tpmkey"
)

func main() { os.Exit(cli.Main("tlsdemo", run)) }

// options is the command line.
type options struct {
	args  []string
	flags *cli.FlagSet

	keys   *cli.KeyFlags
	tpm    *cli.TPMFlag // this and the next belong to keys
	key    *string
	cert   *string
	accept address

	clientCA       *string
	clientOptional *bool
}

// asksClients reports whether the server asks clients for a certificate.
func (o *options) asksClients() bool { return o.flags.Given("client-ca") }

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
		"A handshake may take 10 seconds. A client has 2 seconds to take an answer.\n" +
		"Connections that are idle for a minute are closed. As many connections may be\n" +
		"open as there are descriptors (ulimit -n, less a few), at most 1024, and a\n" +
		"quarter of them for one address. Each one more closes the one that has been\n" +
		"idle for longest.\n\n" +
		"The TPM does not sign for clients that have hung up or resume a session. The key\n" +
		"is loaded again after the TPM was restarted. Other programs can use the TPM at\n" +
		"the same time; a signature waits for them for -wait at most.\n\n" +
		"SIGHUP (kill -HUP) has tlsdemo read the key, the certificate and the client CAs\n" +
		"again. New connections use what has changed; open ones end after their next\n" +
		"answer, and no session from before is resumed. If something does not fit, the\n" +
		"log says so, and what was in use stays in use. Nobody is asked for a secret\n" +
		"then: for another key, a secret of file:PATH is read again, and any other is the\n" +
		"one of the start; a wrong one costs a try. What came from standard input or a\n" +
		"pipe stays. If the terminal closes, tlsdemo ends; started by nohup it stays."
	fs.Example = "tlsdemo -accept 4433\n" +
		"tlsdemo -key maclef -cert moncert -accept localhost:0\n" +
		"curl --cacert moncert https://localhost:4433/"
	o := &options{args: args, flags: fs, accept: address{port: "4433"}}
	o.keys = fs.Key()
	o.tpm, o.key = o.keys.TPM, o.keys.Path
	o.cert = fs.Input("cert", "moncert", "certificate `FILE`, PEM or DER, with its chain in any order if it has one (default moncert)")
	fs.Var(&o.accept, "accept", "listen on `[HOST:]PORT`; PORT alone is on all interfaces, 0 any free port (default 4433)")
	o.clientCA = fs.Input("client-ca", "", "serve only clients with a valid certificate of one of these CAs, for client authentication: `FILE`, PEM or DER")
	o.clientOptional = fs.Bool("client-optional", "with -client-ca: serve clients without a certificate, too; one that a client sends must be valid")
	if _, err := fs.Parse(args); err != nil {
		return nil, err
	}
	if *o.clientOptional && !o.asksClients() {
		return nil, &cli.UsageError{Text: "-client-optional goes with -client-ca", Advice: "give -client-ca FILE, or leave out -client-optional"}
	}
	return o, nil
}

// demo does everything that can fail before it listens: a wrong key is found at the start,
// not by the first client.
func demo(env *cli.Env, o *options) (err error) {
	files, err := readFiles(env, o)
	if err != nil {
		return err
	}
	tpm, err := env.OpenTPM(o.tpm)
	if err != nil {
		return err
	}
	// A key that stayed loaded would take one of the chip's few key slots.
	unwatch := cli.OnSignal(func() { tpm.Close() })
	defer func() {
		if closing := tpm.Close(); closing != nil {
			err = errors.Join(err, fmt.Errorf("free the key in the TPM: %w", closing))
		}
		unwatch()
	}()
	done := env.AwaitTPM(tpm.Name())
	id, err := identify(tpm, o, files)
	done()
	if err != nil {
		return err
	}
	for _, text := range id.warnings {
		env.Notef("%s", text)
	}
	listener, err := o.accept.listen()
	if err != nil {
		return err
	}
	stop, hangups := watchSignals(unwatch)
	fmt.Fprintf(env.Stderr, "tlsdemo: serving %s with %s; Ctrl-C stops\n", o.accept.url(listener.Addr()), id)
	s := newServer(id, defaultLimits(), env.Stderr)
	go (&reloader{server: s, env: env, options: o, tpm: tpm}).run(hangups)
	return s.serve(listener, stop)
}

// identify loads the key, and tries it.
func identify(tpm *tpmkey.TPM, o *options, f *files) (*identity, error) {
	key, err := loadKey(tpm, o, f)
	if err != nil {
		return nil, err
	}
	id, err := newIdentity(o, f, key, true)
	if err != nil {
		return nil, errors.Join(err, key.Close())
	}
	return id, nil
}
