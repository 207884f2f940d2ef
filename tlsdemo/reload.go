package main

import (
	"errors"
	"fmt"
	"strings"

	"maclef/internal/cli"
	"maclef/tpmkey"
)

// A reloader reads key, certificate and client CAs again at each SIGHUP.
type reloader struct {
	*server
	env     *cli.Env
	options *options
	tpm     *tpmkey.TPM
	wrong   *files // of the last key that was loaded, if its secret was wrong
}

// run reloads whenever there is something in requests.
func (r *reloader) run(requests <-chan struct{}) {
	for range requests {
		r.reload()
	}
}

// reload has new connections use the files as they are now. What does not fit leaves the old
// ones in use.
func (r *reloader) reload() {
	old := r.identity()
	id, err := r.read(old)
	switch {
	case errors.Is(err, tpmkey.ErrClosed): // the server stops
	case err != nil:
		text := shortText(err.Error(), 1000)
		if hint := cli.Hint(err, r.options.args); hint != "" {
			text += " (hint: " + shortText(hint, 500) + ")"
		}
		r.log.printf("SIGHUP: what was in use stays in use: %s", text)
	case id == nil:
		r.log.printf("SIGHUP: nothing has changed")
	default:
		r.use(id)
		r.log.printf("SIGHUP: new connections use the changed %s", shortText(strings.Join(id.files.changes(old.files, r.options), ", "), 500))
		for _, text := range id.warnings {
			r.log.printf("SIGHUP: %s", text)
		}
	}
}

// read returns the identity that the files make now; nil if nothing has changed. It sends
// nothing to the TPM if the key's file is the same. It asks nobody for a secret: there may be
// nobody any more, and a prompt would stop a process in the background.
func (r *reloader) read(old *identity) (*identity, error) {
	defer r.env.Unattended()()
	files, err := old.files.reread(r.env, r.options, r.tpm)
	if err != nil || len(files.changes(old.files, r.options)) == 0 {
		return nil, err
	}
	if files.sameKey(old.files) {
		return newIdentity(r.options, files, old.key, false)
	}
	id, err := r.loadAnother(files)
	return id, r.withAdvice(err)
}

// loadAnother loads a key that has replaced the old one. It does not try a wrong secret twice.
func (r *reloader) loadAnother(f *files) (*identity, error) {
	secret, last := r.options.keys.Secret, r.wrong
	var before tpmkey.Secret
	if last != nil {
		before, _ = secret.Resolve()
	}
	defer r.options.flags.RereadSecrets()()
	if last != nil && f.sameKey(last) {
		if now, err := secret.Resolve(); err == nil && now.Equal(before) {
			return nil, fmt.Errorf("try the key %s: %w: the same one as before, it was not tried again", *r.options.key, tpmkey.ErrWrongKeySecret)
		}
	}
	r.wrong = nil
	id, err := identify(r.tpm, r.options, f)
	if errors.Is(err, tpmkey.ErrWrongKeySecret) {
		r.wrong = f
	}
	return id, err
}

// withAdvice says which secret was tried.
func (r *reloader) withAdvice(err error) error {
	const restart = "start tlsdemo again, or give secrets as file:PATH, which is read again"
	switch {
	case errors.Is(err, cli.ErrUnattended):
		return cli.WithHint(err, restart)
	case errors.Is(err, tpmkey.ErrWrongKeySecret), errors.Is(err, tpmkey.ErrWrongSRKSecret):
		return cli.WithHint(err, "the secrets were those of the start, or of file:PATH as it is now; "+restart)
	}
	return err
}
