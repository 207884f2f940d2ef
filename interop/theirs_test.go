package interop

import (
	"crypto"
	"crypto/tls"
	"errors"
	"os"
	"strings"
	"testing"

	"maclef/blob"
	"maclef/tpmkey"
)

// theirKey is a key that another program makes.
type theirKey struct {
	name string
	// make makes it, and returns its file.
	make func(t *testing.T, c *chip) string
	// secret says that it has one; lies, that its file may say the opposite.
	secret, lies bool
	// fixed is the only way in which an RSA key can sign: it has a scheme of its own.
	fixed crypto.SignerOpts
}

// Keys that others make are keys for this project.
func TestTheirKeys(t *testing.T) {
	c := newChip(t).withSRK(t)
	c.write(t, messageFile, message)
	for _, group := range [][]theirKey{opensslKeys(), toolsKeys(), keyfilesKeys()} {
		for _, k := range group {
			t.Run(k.name, func(t *testing.T) { k.test(t, c) })
		}
	}
}

func (k *theirKey) test(t *testing.T, c *chip) {
	file := k.make(t, c)
	key, err := blob.Parse(mustRead(t, file))
	if err != nil {
		t.Fatal(err)
	}
	if got := key.NeedsSecret(); got != k.secret && !k.lies {
		t.Errorf("NeedsSecret() = %v", got)
	}
	opts := &tpmkey.LoadOptions{}
	switch {
	case k.secret:
		opts.Auth = tpmkey.Password([]byte(secret)).Keep()
	case key.NeedsSecret():
		opts.Auth = tpmkey.WellKnown()
	}
	c.useKey(t, file, opts, func(key *tpmkey.Key) {
		if k.fixed == nil {
			exercise(t, key)
			return
		}
		sign(t, key, k.fixed)
		version := uint16(tls.VersionTLS12) // the last with PKCS#1 v1.5
		if k.fixed == pssSHA256 {
			version = tls.VersionTLS13
		}
		handshake(t, key, version)
		if _, err := key.Sign(nil, digest(crypto.SHA512), crypto.SHA512); !errors.Is(err, tpmkey.ErrNotSupported) {
			t.Errorf("another scheme than the key's: %v", err)
		}
	})
}

func mustRead(t *testing.T, file string) []byte {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// A pair says neither what its parent is nor whether it has a secret.
func TestTheirPairs(t *testing.T) {
	c := newChip(t).withSRK(t)
	for _, parent := range []string{c.primary(t), srk} {
		t.Run(parent, func(t *testing.T) {
			c.run(t, "tpm2_create", "-C", parent, "-G", "ecc256", "-u", "tools.pub", "-r", "tools.priv", "-p", secret)
			key, err := blob.ParsePair(c.read(t, "tools.pub"), c.read(t, "tools.priv"))
			if err != nil {
				t.Fatal(err)
			}
			c.use(t, func(tpm *tpmkey.TPM) {
				key, err := tpm.Load(t.Context(), key, &tpmkey.LoadOptions{Auth: tpmkey.Password([]byte(secret)).Keep()})
				if err != nil {
					t.Fatal(err)
				}
				exercise(t, key)
			})
		})
	}
}

// A key that signs only what the TPM has hashed is of no use to Go, nor is one whose
// policy nobody tells.
func TestTheirUnusable(t *testing.T) {
	c := newChip(t)
	refuse := func(t *testing.T, key blob.Key, want error, words string) {
		t.Helper()
		c.use(t, func(tpm *tpmkey.TPM) {
			loaded, err := tpm.Load(t.Context(), key, &tpmkey.LoadOptions{Auth: tpmkey.WellKnown()})
			if err == nil {
				_, err = loaded.Sign(nil, digest(crypto.SHA256), crypto.SHA256)
			}
			if !errors.Is(err, want) || !strings.Contains(err.Error(), words) {
				t.Errorf("%v, want %v: %s", err, want, words)
			}
		})
	}
	t.Run("restricted", func(t *testing.T) {
		c.openssl(t, "genpkey", "-algorithm", "RSA-PSS", "-pkeyopt", "bits:2048", "-pkeyopt", "digest:SHA256", "-out", "pss.pem")
		key, err := blob.Parse(c.read(t, "pss.pem"))
		if err != nil {
			t.Fatal(err)
		}
		refuse(t, key, tpmkey.ErrNotSupported, "restricted")
	})
	t.Run("unknown policy", func(t *testing.T) {
		c.run(t, "tpm2_createpolicy", "--policy-pcr", "-l", "sha256:16", "-L", "policy")
		c.run(t, "tpm2_create", "-C", c.primary(t), "-G", "ecc256", "-L", "policy", "-u", "tools.pub", "-r", "tools.priv",
			"-a", "fixedtpm|fixedparent|sensitivedataorigin|sign")
		key, err := blob.ParsePair(c.read(t, "tools.pub"), c.read(t, "tools.priv"))
		if err != nil {
			t.Fatal(err)
		}
		refuse(t, key, tpmkey.ErrPolicy, "the steps of its policy are not known")
	})
}
