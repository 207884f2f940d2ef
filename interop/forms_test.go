package interop

import (
	"errors"
	"strings"
	"testing"

	"maclef/blob"
	"maclef/tpmkey"
)

// refused runs a command that fails, and checks what it says.
func (c *chip) refused(t *testing.T, words []string, name string, args ...string) {
	t.Helper()
	out, err := c.try(t, name, args...)
	for _, w := range words {
		if err == nil || !strings.Contains(string(out), w) {
			t.Errorf("%s %s: error %v, want %q:\n%s", name, strings.Join(args, " "), err, w, out)
		}
	}
}

// What tpm2_evictcontrol -o writes of a persistent key names that key.
func TestTheirESYSObject(t *testing.T) {
	c := newChip(t)
	const handle = "0x81000010"
	keep := func(name, kind string) {
		c.run(t, "tpm2_create", "-C", c.primary(t), "-G", kind, "-u", "tools.pub", "-r", "tools.priv", "-p", secret)
		c.run(t, "tpm2_load", "-C", "primary.ctx", "-u", "tools.pub", "-r", "tools.priv", "-c", "key.ctx")
		c.run(t, "tpm2_evictcontrol", "-C", "o", "-c", "key.ctx", "-o", name, handle)
	}
	opts := &tpmkey.LoadOptions{Auth: tpmkey.Password([]byte(secret)).Keep()}
	for _, kind := range []string{"ecc256", "rsa2048"} {
		keep(kind, kind)
		c.useKey(t, c.file(kind), opts, func(key *tpmkey.Key) { exercise(t, key) })
		c.run(t, "tpm2_evictcontrol", "-C", "o", "-c", handle)
	}
	c.refused(t, []string{"keeps none at " + handle, "hint: tpmctl status lists the keys"}, "tpmctl", "sign", "-key", "ecc256", "-key-pass", "pass:"+secret, "-in", "ecc256")
	keep("another", "ecc256")
	c.refused(t, []string{"what is at " + handle + " is another key by now"}, "tpmctl", "sign", "-key", "ecc256", "-key-pass", "pass:"+secret, "-in", "ecc256")
}

// Keys of tpm2_create that are limited to a scheme, or of no use at all.
func TestTheirLimits(t *testing.T) {
	c := newChip(t)
	c.write(t, messageFile, message)
	const signs = "fixedtpm|fixedparent|sensitivedataorigin|userwithauth|sign"
	make := func(name, kind, attributes string) {
		c.run(t, "tpm2_create", "-C", c.primary(t), "-G", kind, "-a", attributes, "-u", name+".pub", "-r", name+".prv")
	}
	for name, k := range map[string]struct{ kind, flags, cert string }{
		"pss384": {"rsa2048:rsapss-sha384:null", "-pss -hash sha384", ""},
		"rsa1":   {"rsa2048:rsassa-sha1:null", "-hash sha1", "this key signs SHA-1 digests only, not SHA-256"},
		"rsa384": {"rsa2048:rsassa-sha384:null", "-hash sha384", ""},
		"ecdsa1": {"ecc256:ecdsa-sha1", "-hash sha1", "this key signs SHA-1 digests only, not SHA-256"},
		"pss1":   {"rsa2048:rsapss-sha1:null", "-pss -hash sha1", "this key cannot sign a certificate"},
	} {
		make(name, k.kind, signs)
		use := []string{"-key", name + ".pub", "-key-pass", "pass:"}
		sign := append([]string{"sign", "-in", messageFile}, use...)
		c.refused(t, []string{"not supported", "hint: this key signs with " + k.flags + "\n"}, "tpmctl", sign...)
		c.run(t, "tpmctl", append(sign, strings.Fields(k.flags)...)...)
		if k.cert != "" {
			c.refused(t, []string{k.cert, "hint: "}, "certgen", append(use, "-out", name+".crt")...)
		} else {
			c.run(t, "certgen", append(use, "-out", name+".crt")...)
			c.run(t, "openssl", "verify", "-check_ss_sig", "-CAfile", name+".crt", name+".crt")
		}
	}
	make("useless", "ecc256", "fixedtpm|fixedparent|sensitivedataorigin|sign")
	use := []string{"-key", "useless.pub", "-key-pass", "pass:"}
	const why = "no program can use it: it was made with neither the attribute userWithAuth nor a policy"
	c.refused(t, []string{why}, "tpmctl", append([]string{"sign", "-in", messageFile}, use...)...)
	c.refused(t, []string{why}, "certgen", use...)
	key, err := blob.ParsePair(c.read(t, "useless.pub"), c.read(t, "useless.prv"))
	if err != nil {
		t.Fatal(err)
	}
	c.use(t, func(tpm *tpmkey.TPM) {
		if _, err := tpm.Load(t.Context(), key, nil); !errors.Is(err, tpmkey.ErrNotSupported) || !strings.Contains(err.Error(), why) {
			t.Error(err)
		}
	})
}

// A parent with Camellia, which go-tpm does not know.
func TestTheirCamellia(t *testing.T) {
	c := newChip(t)
	c.run(t, "tpm2_createprimary", "-C", "o", "-G", "rsa2048:null:camellia128cfb", "-c", "camellia.ctx")
	c.run(t, "tpm2_evictcontrol", "-C", "o", "-c", "camellia.ctx", srk)
	c.run(t, "tpm2_create", "-C", srk, "-G", "ecc256", "-u", "tools.pub", "-r", "tools.priv")
	why := []string{"not supported: the parent at " + srk + " uses Camellia, and this program uses parents with AES; name another parent"}
	c.refused(t, why, "keygen", "-parent", srk, "key")
	c.refused(t, why, "tpmctl", "sign", "-key", "tools.pub", "-parent", srk, "-key-pass", "pass:", "-in", "tools.pub")
}
