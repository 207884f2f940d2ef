package interop

import (
	"bytes"
	"crypto"
	"encoding/hex"
	"errors"
	"testing"

	keyfile "github.com/foxboron/go-tpm-keyfiles"

	"maclef/blob"
	"maclef/tpmkey"
)

// A key with a policy of PCRs is used by who meets it: tpm2-tools here, which take such
// a key as a pair only. The other programs know no policies in key files.
func TestOurPolicy(t *testing.T) {
	c := newChip(t)
	c.write(t, messageFile, message)
	for _, kind := range []string{"rsa2048", "p256"} {
		t.Run(kind, func(t *testing.T) {
			c.run(t, "keygen", "-type", kind, "-policy", "pcr:sha256:16,23", kind)
			key, err := blob.Parse(c.read(t, kind))
			if err != nil {
				t.Fatal(err)
			}
			c.loadPair(t, key, c.primary(t))
			c.run(t, "tpm2_startauthsession", "--policy-session", "-S", "session.ctx")
			c.run(t, "tpm2_policypcr", "-S", "session.ctx", "-l", "sha256:16,23")
			c.run(t, "tpm2_sign", "-c", "key.ctx", "-p", "session:session.ctx", "-g", "sha256", "-f", "plain", "-o", "sig", messageFile)
			if err := verify(key.PublicKey(), digest(crypto.SHA256), c.read(t, "sig"), crypto.SHA256); err != nil {
				t.Error(err)
			}
			c.run(t, "tpm2_flushcontext", "session.ctx")
			if out, err := c.try(t, "tpm2_sign", "-c", "key.ctx", "-g", "sha256", "-o", "sig", messageFile); err == nil {
				t.Errorf("signed without the policy: %s", out)
			}
		})
	}
}

// What this project seals, others unseal.
func TestOurSealed(t *testing.T) {
	c := newChip(t)
	_, file := c.save(t, "sealed.pem", func(tpm *tpmkey.TPM) (blob.Key, error) { return tpm.Seal(t.Context(), message, nil) })
	t.Run("tpm2-tools", func(t *testing.T) {
		c.run(t, "tpm2_load", "-r", file, "-c", "sealed.ctx")
		if got := c.run(t, "tpm2_unseal", "-c", "sealed.ctx"); !bytes.Equal(got, message) {
			t.Errorf("%q", got)
		}
	})
	t.Run("go-tpm-keyfiles", func(t *testing.T) {
		key, err := keyfile.Decode(c.read(t, "sealed.pem"))
		if err != nil {
			t.Fatal(err)
		}
		tpm := c.raw(t)
		defer c.flush(t)
		defer tpm.Close()
		if got, err := keyfile.UnsealData(tpm, key, nil); err != nil || !bytes.Equal(got, message) {
			t.Errorf("%q, %v", got, err)
		}
	})
}

// What others seal, this project unseals; it is not a key.
func TestTheirSealed(t *testing.T) {
	c := newChip(t)
	sealed := map[string]func(t *testing.T) []byte{
		"tpm2-tools": func(t *testing.T) []byte {
			c.write(t, "plain", message)
			c.run(t, "tpm2_create", "-C", c.primary(t), "-i", "plain", "-u", "tools.pub", "-r", "tools.priv")
			return c.read(t, "tools.pub")
		},
		"go-tpm-keyfiles": func(t *testing.T) []byte {
			tpm := c.raw(t)
			defer c.flush(t)
			defer tpm.Close()
			key, err := keyfile.NewSealedData(tpm, message, nil)
			if err != nil {
				t.Fatal(err)
			}
			return key.Bytes()
		},
	}
	for name, seal := range sealed {
		t.Run(name, func(t *testing.T) {
			data := seal(t)
			parse := func() (blob.Key, error) { return blob.Parse(data) }
			opts := &tpmkey.LoadOptions{}
			if name == "tpm2-tools" {
				parse = func() (blob.Key, error) { return blob.ParsePair(data, c.read(t, "tools.priv")) }
				opts.Auth = tpmkey.WellKnown()
			}
			file, err := parse()
			if err != nil {
				t.Fatal(err)
			}
			c.use(t, func(tpm *tpmkey.TPM) {
				got, err := tpm.Unseal(t.Context(), file, opts)
				if err != nil || !bytes.Equal(got, message) {
					t.Errorf("%q, %v", got, err)
				}
				if _, err := tpm.Load(t.Context(), file, opts); !errors.Is(err, tpmkey.ErrNotSupported) {
					t.Errorf("loaded as a key: %v", err)
				}
			})
		})
	}
}

// Secrets that are no text, which tpm2-tools take as hex:. A TPM ignores zero bytes at the end, and
// no others.
func TestHexSecrets(t *testing.T) {
	c := newChip(t).withSRK(t)
	for _, digits := range []string{"00", "0001", "010200", "0a00ff"} {
		t.Run(digits, func(t *testing.T) {
			raw, err := hex.DecodeString(digits)
			if err != nil {
				t.Fatal(err)
			}
			opts := &tpmkey.LoadOptions{Auth: tpmkey.Password(raw).Keep()}
			for algorithm, attributes := range map[string]string{"rsa2048": "", "ecc": "noda|"} {
				c.run(t, "tpm2_create", "-C", srk, "-G", algorithm, "-p", "hex:"+digits, "-u", "tools.pub", "-r", "tools.priv",
					"-a", attributes+"fixedtpm|fixedparent|sensitivedataorigin|userwithauth|decrypt|sign")
				file, err := blob.ParsePair(c.read(t, "tools.pub"), c.read(t, "tools.priv"))
				if err != nil {
					t.Fatal(err)
				}
				c.use(t, func(tpm *tpmkey.TPM) {
					key, err := tpm.Load(t.Context(), file, opts)
					if err != nil {
						t.Fatal(err)
					}
					exercise(t, key)
				})
			}
			if digits == "00" {
				return // a new secret like this is refused: it is the empty one
			}
			_, sealed := c.save(t, "sealed.pem", func(tpm *tpmkey.TPM) (blob.Key, error) {
				return tpm.Seal(t.Context(), message, &tpmkey.SealOptions{Auth: tpmkey.Password(raw)})
			})
			c.run(t, "tpm2_load", "-r", sealed, "-c", "sealed.ctx")
			if got := c.run(t, "tpm2_unseal", "-c", "sealed.ctx", "-p", "hex:"+digits); !bytes.Equal(got, message) {
				t.Errorf("%q", got)
			}
		})
	}
	c.use(t, func(tpm *tpmkey.TPM) {
		if s, err := tpm.Status(t.Context()); err != nil || s.Lockout.Tries != 0 {
			t.Errorf("%+v, %v", s, err)
		}
	})
}
