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

// reread returns the files as they are now. What came from standard input cannot be read
// twice, and stays.
func (f *files) reread(env *cli.Env, o *options, tpm *tpmkey.TPM) (*files, error) {
	now, err := *f, error(nil)
	handle, isHandle, _ := tpmkey.ParseHandle(*o.key)
	switch {
	case isHandle:
		now.key, err = tpm.ReadHandle(context.Background(), handle)
	case !isStdin(*o.key):
		now.key, err = env.ReadKey(o.keys)
	}
	if err != nil {
		return nil, err
	}
	return &now, now.readCertificates(env, o)
}

// readCertificates reads the certificates, but not those that came from standard input.
func (f *files) readCertificates(env *cli.Env, o *options) (err error) {
	if f.chain == nil || !isStdin(*o.cert) {
		f.chain, err = env.ReadInput(*o.cert, cli.CertFileLimit, "certificate")
		if errors.Is(err, fs.ErrNotExist) {
			err = cli.WithHint(err, "make a certificate for this key: certgen -key "+*o.key+" -out "+*o.cert)
		}
		if err != nil {
			return err
		}
	}
	if o.asksClients() && (f.clientCAs == nil || !isStdin(*o.clientCA)) {
		f.clientCAs, err = env.ReadInput(*o.clientCA, cli.CertFileLimit, "file of client CAs")
	}
	return err
}

func isStdin(path string) bool { return path == "" || path == "-" }

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
