// Peers signs with the signers of other projects. The package bench starts it;
// bench/child_test.go describes the protocol. It is a separate module, so that users of the
// library do not get its dependencies.
package main

import (
	"crypto"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	keyfile "github.com/foxboron/go-tpm-keyfiles"
	"github.com/google/go-tpm/tpm2/transport"
	"github.com/google/go-tpm/tpm2/transport/linuxudstpm"
)

// A task is the task of package bench.
type task struct {
	Role string // the signer's type
	TPM  string // unix:PATH
	Keys []struct{ Path, Password string }
	For  time.Duration
}

// A result is the result of a task.
type result struct {
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
	var t task
	if err := json.Unmarshal([]byte(os.Getenv("BENCH_TASK")), &t); err != nil {
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
	if _, err := signer.Sign(nil, digest[:], crypto.SHA256); err != nil { // warms up
		return err
	}
	fmt.Println("true")
	io.Copy(io.Discard, os.Stdin)
	var r result
	for start := time.Now(); r.Took < t.For; r.Took = time.Since(start) {
		if _, err := signer.Sign(nil, digest[:], crypto.SHA256); err != nil {
			return err
		}
		r.Done++
	}
	return json.NewEncoder(os.Stdout).Encode(r)
}

// signer returns a signer that loads the key for each signature, or one whose key stays
// loaded. bench frees what stays loaded.
func (t *task) signer(tpm transport.TPMCloser) (crypto.Signer, error) {
	data, err := os.ReadFile(t.Keys[0].Path)
	if err != nil {
		return nil, err
	}
	key, err := keyfile.Decode(data)
	if err != nil {
		return nil, err
	}
	if t.Role == "TPMKeySigner" {
		noOwner := func() ([]byte, error) { return nil, nil }
		secret := func(*keyfile.TPMKey) ([]byte, error) { return []byte(t.Keys[0].Password), nil }
		return keyfile.NewTPMKeySigner(key, noOwner, func() transport.TPMCloser { return tpm }, secret), nil
	}
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
