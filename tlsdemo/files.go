package main

import (
	"context"
	"errors"
	"io/fs"
	"reflect"

	"maclef/blob"
	"maclef/internal/cli"
	"maclef/tpmkey"
)

// files are what the server reads: at the start before it opens a TPM, and at each reload.
type files struct {
	key       blob.Key
	chain     []byte // PEM or DER
	clientCAs []byte // PEM or DER; nil without -client-ca
}

func readFiles(env *cli.Env, o *options) (*files, error) {
	key, err := env.ReadKey(o.keys)
	if err != nil {
		return nil, err
	}
	f := &files{key: key}
	return f, f.readCertificates(env, o)
}

// reread returns the files as they are now, while nobody attends. What can be read only once
// stays: what came from standard input, or from a pipe.
func (f *files) reread(env *cli.Env, o *options, tpm *tpmkey.TPM) (_ *files, err error) {
	now := *f
	if handle, isHandle, _ := tpmkey.ParseHandle(*o.key); isHandle {
		now.key, err = tpm.ReadHandle(context.Background(), handle)
	} else {
		now.key, err = env.ReadKey(o.keys)
	}
	switch {
	case errors.Is(err, cli.ErrReadOnce):
		now.key = f.key
	case err != nil:
		return nil, err
	}
	return &now, now.readCertificates(env, o)
}

// readCertificates reads the certificates, but not again those that can be read only once.
func (f *files) readCertificates(env *cli.Env, o *options) error {
	err := readCertFile(env, *o.cert, "certificate", &f.chain)
	if errors.Is(err, fs.ErrNotExist) {
		err = cli.WithHint(err, "make a certificate for this key: certgen -key "+*o.key+" -out "+*o.cert)
	}
	if err == nil && o.asksClients() {
		err = readCertFile(env, *o.clientCA, "file of client CAs", &f.clientCAs)
	}
	return err
}

func readCertFile(env *cli.Env, path, what string, data *[]byte) error {
	now, err := env.ReadInput(path, cli.CertFileLimit, what)
	switch {
	case errors.Is(err, cli.ErrReadOnce):
		return nil
	case err == nil:
		*data = now
	}
	return err
}

func (f *files) sameKey(other *files) bool { return reflect.DeepEqual(f.key, other.key) }

// changes returns the names of the files that differ.
func (f *files) changes(other *files, o *options) (names []string) {
	if !f.sameKey(other) {
		names = append(names, *o.key)
	}
	if string(f.chain) != string(other.chain) {
		names = append(names, *o.cert)
	}
	if string(f.clientCAs) != string(other.clientCAs) {
		names = append(names, *o.clientCA)
	}
	return names
}
