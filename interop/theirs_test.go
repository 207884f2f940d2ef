package interop

import (
	"bytes"
	"crypto"
	"crypto/tls"
	"errors"
	"fmt"
	"os"
	"slices"
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

// Go's crypto.MessageSigner, which the module's own Go version need not have.
var _ crypto.MessageSigner = (*tpmkey.Key)(nil)

// Restricted keys sign messages: tpm2-openssl's of RSA-PSS, and attestation keys of tpm2-tools, kept
// in the TPM or in files. openssl verifies.
func TestTheirRestricted(t *testing.T) {
	c := newChip(t)
	message := bytes.Repeat([]byte("bonjour "), 500)
	c.write(t, "long", message)
	verify := func(t *testing.T, key string, args ...string) {
		t.Helper()
		c.run(t, "tpmctl", append([]string{"sign", "-key", key, "-key-pass", "pass:", "-in", "long", "-out", "sig", "-force"}, args...)...)
		c.run(t, "tpmctl", "pub", "-out", "pub.pem", "-force", key)
		check := []string{"dgst", "-sha256", "-verify", "pub.pem", "-signature", "sig"}
		if slices.Contains(args, "-pss") {
			check = append(check, "-sigopt", "rsa_padding_mode:pss")
		}
		if out := c.run(t, "openssl", append(check, "long")...); !strings.Contains(string(out), "Verified OK") {
			t.Errorf("%s: %s", key, out)
		}
	}
	c.openssl(t, "genpkey", "-algorithm", "RSA-PSS", "-pkeyopt", "bits:2048", "-pkeyopt", "digest:SHA256", "-out", "pss.pem")
	verify(t, "pss.pem", "-pss")
	// A short key has no room for a salt as long as its hash. inspect says with which flags it signs.
	c.openssl(t, "genpkey", "-algorithm", "RSA-PSS", "-pkeyopt", "bits:1024", "-pkeyopt", "digest:SHA512", "-out", "short.pem")
	const flags = "-pss -salt max -hash sha512"
	if out := c.run(t, "tpmctl", "inspect", "short.pem"); !strings.Contains(string(out), "(tpmctl sign "+flags+")") {
		t.Errorf("%s", out)
	}
	c.run(t, "tpmctl", append([]string{"sign", "-key", "short.pem", "-in", "long", "-out", "sig", "-force"}, strings.Fields(flags)...)...)
	c.run(t, "tpmctl", "pub", "-out", "pub.pem", "-force", "short.pem")
	c.run(t, "openssl", "dgst", "-sha512", "-verify", "pub.pem", "-sigopt", "rsa_padding_mode:pss", "-signature", "sig", "long")
	c.run(t, "tpm2_createek", "-c", "0x81010001", "-G", "rsa", "-u", "ek.pub")
	for i, scheme := range [][]string{{"rsa", "rsassa"}, {"rsa", "rsapss"}, {"ecc", "ecdsa"}} {
		handle := fmt.Sprintf("0x8101001%d", i)
		c.run(t, "tpm2_createak", "-C", "0x81010001", "-c", "ak.ctx", "-G", scheme[0], "-g", "sha256", "-s", scheme[1])
		c.run(t, "tpm2_evictcontrol", "-c", "ak.ctx", handle)
		var args []string
		if scheme[1] == "rsapss" {
			args = append(args, "-pss")
		}
		verify(t, "handle:"+handle, args...)
	}
}

// A key whose policy nobody tells is of no use.
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
