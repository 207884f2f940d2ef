// Peers signs with other projects' signers, for the program bench, which starts it. It
// is a module of its own, so that nobody who uses the library gets what this needs.
//
// It gets a task as JSON in a line, prepares, writes a line "ready", waits for a line,
// does it, and writes its report as JSON.
package main

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	keyfile "github.com/foxboron/go-tpm-keyfiles"
	"github.com/google/go-tpm/tpm2/transport"
	"github.com/google/go-tpm/tpm2/transport/linuxudstpm"
)

// A task is what bench calls one.
type task struct {
	Role string
	TPM  string // unix:PATH
	Keys []struct{ Path, Password string }
	For  time.Duration
	Way  string // pkcs1 or p256: by SHA-256
}

// A report is what became of it.
type report struct {
	Done int
	Took time.Duration
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "peers: error:", err)
		os.Exit(1)
	}
}

func run() error {
	in := json.NewDecoder(os.Stdin)
	var t task
	if err := in.Decode(&t); err != nil {
		return err
	}
	tpm, err := linuxudstpm.Open(strings.TrimPrefix(t.TPM, "unix:"))
	if err != nil {
		return err
	}
	defer tpm.Close()
	signer, err := t.signer(tpm)
	if err != nil {
		return err
	}
	digest := sha256.Sum256([]byte("The quick brown fox"))
	sig, err := signer.Sign(nil, digest[:], crypto.SHA256)
	if err != nil {
		return err
	}
	if !verifies(signer.Public(), digest[:], sig) {
		return errors.New("wrong signature")
	}
	fmt.Println("ready")
	if err := in.Decode(new(bool)); err != nil {
		return err
	}
	var r report
	for start := time.Now(); r.Took < t.For; r.Took = time.Since(start) {
		if _, err := signer.Sign(nil, digest[:], crypto.SHA256); err != nil {
			return err
		}
		r.Done++
	}
	return json.NewEncoder(os.Stdout).Encode(r)
}

// signer is one that loads the key for each signature, or one whose key is loaded
// already. What is left loaded, bench frees.
func (t *task) signer(tpm transport.TPMCloser) (crypto.Signer, error) {
	data, err := os.ReadFile(t.Keys[0].Path)
	if err != nil {
		return nil, err
	}
	key, err := keyfile.Decode(data)
	if err != nil {
		return nil, err
	}
	noOwner := func() ([]byte, error) { return nil, nil }
	secret := func(*keyfile.TPMKey) ([]byte, error) { return []byte(t.Keys[0].Password), nil }
	switch t.Role {
	case "keyfiles":
		return keyfile.NewTPMKeySigner(key, noOwner, func() transport.TPMCloser { return tpm }, secret), nil
	case "keyfiles-loaded":
		session := keyfile.NewTPMSession(tpm)
		session.SetTPM(tpm)
		handle, parent, err := keyfile.LoadKey(session, key, nil)
		if err != nil {
			return nil, err
		}
		keyfile.FlushHandle(tpm, parent)
		session.FlushHandle()
		signer := keyfile.NewTPMHandleSignerFromKey(tpm, key, handle)
		return &signer, nil
	}
	return nil, fmt.Errorf("no role %q", t.Role)
}

func verifies(public crypto.PublicKey, digest, sig []byte) bool {
	switch public := public.(type) {
	case *rsa.PublicKey:
		return rsa.VerifyPKCS1v15(public, crypto.SHA256, digest, sig) == nil
	case *ecdsa.PublicKey:
		return ecdsa.VerifyASN1(public, digest, sig)
	}
	return false
}
