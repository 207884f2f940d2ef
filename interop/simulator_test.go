package interop

import (
	"bytes"
	"crypto"
	"errors"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-tpm-tools/simulator"
	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"

	"maclef/blob"
	"maclef/internal/tpmtest"
	"maclef/tpmkey"
)

// reference is go-tpm-tools' simulator: the reference implementation of a TPM 2.0. A
// process can have one at a time: asking for a second waits for ever.
type reference struct {
	transport.TPM
	sim  *simulator.Simulator
	once sync.Once
}

func (r *reference) Close() (err error) {
	r.once.Do(func() { err = r.sim.Close() })
	return err
}

// openSimulator opens it with this project's library, until the test ends.
func openSimulator(t *testing.T) (*tpmkey.TPM, *simulator.Simulator) {
	t.Helper()
	sim, err := simulator.Get()
	if err != nil {
		t.Fatal(err)
	}
	r := &reference{TPM: transport.FromReadWriter(sim), sim: sim}
	tpm, err := tpmkey.OpenTransport(t.Context(), r)
	if err != nil {
		r.Close()
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(tpm.Close(), r.Close()); err != nil {
			t.Error(err)
		}
	})
	return tpm, sim
}

// More keys than the three slots do everything, and survive a reset.
func TestSimulator(t *testing.T) {
	tpm, sim := openSimulator(t)
	tests := []struct {
		name string
		opts tpmkey.CreateOptions
	}{
		{"rsa2048", tpmkey.CreateOptions{}},
		{"p256", tpmkey.CreateOptions{Type: tpmkey.P256}},
		{"p384", tpmkey.CreateOptions{Type: tpmkey.P384}},
		{"p521", tpmkey.CreateOptions{Type: tpmkey.P521}},
		{"rsa2048 with a secret", tpmkey.CreateOptions{Auth: tpmkey.Password([]byte(secret))}},
		{"p256 with a secret", tpmkey.CreateOptions{Type: tpmkey.P256, Auth: tpmkey.Password([]byte(secret))}},
	}
	var keys []*tpmkey.Key
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			key := makeKey(t, tpm, &tt.opts, tt.opts.Auth.Keep())
			keys = append(keys, key)
			exercise(t, key)
		})
	}
	t.Run("after a reset", func(t *testing.T) {
		if err := sim.Reset(); err != nil {
			t.Fatal(err)
		}
		for _, key := range keys {
			sign(t, key, crypto.SHA256)
		}
	})
}

// makeKey makes a key and loads it with a secret.
func makeKey(t *testing.T, tpm *tpmkey.TPM, opts *tpmkey.CreateOptions, secret tpmkey.Secret) *tpmkey.Key {
	t.Helper()
	file, err := tpm.Create(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	key, err := tpm.Load(t.Context(), file, &tpmkey.LoadOptions{Auth: secret})
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// What this chip lacks and what is not its own is refused.
func TestSimulatorRefuses(t *testing.T) {
	tpm, _ := openSimulator(t)
	for _, kind := range []tpmkey.KeyType{tpmkey.RSA3072, tpmkey.RSA4096, tpmkey.RSA1024} {
		if _, err := tpm.Create(t.Context(), &tpmkey.CreateOptions{Type: kind}); !errors.Is(err, tpmkey.ErrNotSupported) {
			t.Errorf("%s: %v", kind, err)
		}
	}
	file, err := blob.Parse(tpmtest.Fixture(t, "tpm2/pv-p256.pem"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tpm.Load(t.Context(), file, nil); !errors.Is(err, tpmkey.ErrWrongTPM) {
		t.Errorf("a key of another chip: %v", err)
	}
}

// A wrong secret is tried once, and none when the chip is locked out.
func TestSimulatorSecrets(t *testing.T) {
	tpm, _ := openSimulator(t)
	opts := &tpmkey.CreateOptions{Type: tpmkey.P256, Auth: tpmkey.Password([]byte(secret))}
	for tries := 1; tries <= 3; tries++ {
		key := makeKey(t, tpm, opts, tpmkey.Password([]byte("wrong")))
		if _, err := key.Sign(nil, digest(crypto.SHA256), crypto.SHA256); !errors.Is(err, tpmkey.ErrWrongKeySecret) {
			t.Errorf("try %d: %v", tries, err)
		}
		status, err := tpm.Status(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if status.Lockout == nil || status.Lockout.Tries != tries {
			t.Errorf("after %d wrong secrets: %+v", tries, status.Lockout)
		}
	}
	key := makeKey(t, tpm, opts, tpmkey.Password([]byte(secret)))
	if _, err := key.Sign(nil, digest(crypto.SHA256), crypto.SHA256); !errors.Is(err, tpmkey.ErrLockedOut) {
		t.Errorf("the right secret of a chip that is locked out: %v", err)
	}
	sign(t, makeKey(t, tpm, &tpmkey.CreateOptions{Type: tpmkey.P256}, tpmkey.Secret{}), crypto.SHA256)
}

// Keys and data are bound to a PCR until it differs.
func TestSimulatorPolicy(t *testing.T) {
	tpm, sim := openSimulator(t)
	policy, err := tpmkey.ParsePolicy("pcr:sha256:16")
	if err != nil {
		t.Fatal(err)
	}
	key := makeKey(t, tpm, &tpmkey.CreateOptions{Policy: policy}, tpmkey.Secret{})
	exercise(t, key)
	sealed, err := tpm.Seal(t.Context(), message, &tpmkey.SealOptions{Policy: policy, Auth: tpmkey.Password([]byte(secret))})
	if err != nil {
		t.Fatal(err)
	}
	with := &tpmkey.LoadOptions{Auth: tpmkey.Password([]byte(secret))}
	if got, err := tpm.Unseal(t.Context(), sealed, with); err != nil || !bytes.Equal(got, message) {
		t.Errorf("%q, %v", got, err)
	}
	extend := tpm2.PCRExtend{
		PCRHandle: tpm2.AuthHandle{Handle: 16, Auth: tpm2.PasswordAuth(nil)},
		Digests:   tpm2.TPMLDigestValues{Digests: []tpm2.TPMTHA{{HashAlg: tpm2.TPMAlgSHA256, Digest: make([]byte, 32)}}},
	}
	if _, err := extend.Execute(transport.FromReadWriter(sim)); err != nil {
		t.Fatal(err)
	}
	_, signing := key.Sign(nil, digest(crypto.SHA256), crypto.SHA256)
	_, unsealing := tpm.Unseal(t.Context(), sealed, with)
	for _, err := range []error{signing, unsealing} {
		if !errors.Is(err, tpmkey.ErrPolicy) || !strings.Contains(err.Error(), "PCR 16") {
			t.Error(err)
		}
	}
}
