package interop

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"os"
	"testing"

	keyfile "github.com/foxboron/go-tpm-keyfiles"
	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"
)

// opensslKeys are those of openssl genpkey with tpm2-openssl.
func opensslKeys() []theirKey {
	genpkey := func(args ...string) func(t *testing.T, c *chip) string {
		return func(t *testing.T, c *chip) string {
			c.openssl(t, "genpkey", append(args, "-out", "genpkey.pem")...)
			return c.file("genpkey.pem")
		}
	}
	const rsa, ec = "RSA", "EC"
	// kept is a key that the TPM keeps, whose file has the handle as its private part.
	kept := func(handle string, args ...string) func(t *testing.T, c *chip) string {
		return func(t *testing.T, c *chip) string {
			c.run(t, "tpm2_create", append([]string{"-C", c.primary(t), "-u", "kept.pub", "-r", "kept.priv"}, args...)...)
			c.run(t, "tpm2_load", "-C", c.primary(t), "-u", "kept.pub", "-r", "kept.priv", "-c", "kept.ctx")
			c.run(t, "tpm2_evictcontrol", "-C", "o", "-c", "kept.ctx", handle)
			c.openssl(t, "pkey", "-in", "handle:"+handle, "-out", "kept.pem")
			return c.file("kept.pem")
		}
	}
	return []theirKey{
		{name: "openssl p256 at a handle", make: kept("0x81010001", "-G", "ecc256")},
		{name: "openssl rsa2048 at a handle", make: kept("0x81000020", "-G", "rsa2048")},
		{name: "openssl rsa2048", make: genpkey("-algorithm", rsa, "-pkeyopt", "bits:2048")},
		{name: "openssl p256", make: genpkey("-algorithm", ec, "-pkeyopt", "group:P-256")},
		{name: "openssl p384", make: genpkey("-algorithm", ec, "-pkeyopt", "group:P-384")},
		{name: "openssl p521", make: genpkey("-algorithm", ec, "-pkeyopt", "group:P-521")},
		{name: "openssl rsa2048 with a secret", secret: true,
			make: genpkey("-algorithm", rsa, "-pkeyopt", "bits:2048", "-pkeyopt", "user-auth:"+secret)},
		{name: "openssl p256 with a secret, persistent parent", secret: true,
			make: genpkey("-algorithm", ec, "-pkeyopt", "group:P-256", "-pkeyopt", "user-auth:"+secret, "-pkeyopt", "parent:"+srk)},
	}
}

// toolsKeys are those of tpm2_create, as PEM and as pairs. tpm2_encodeobject 5.4
// writes the opposite of what is so: that a key without a secret needs one, and
// that one with a secret needs none.
func toolsKeys() []theirKey {
	// parent is a handle, the primary key of key files, or what tpm2_createprimary makes
	// when not told more.
	const files = ""
	create := func(parent, algorithm string, args ...string) func(t *testing.T, c *chip) string {
		return func(t *testing.T, c *chip) string {
			parent := parent
			switch parent {
			case files:
				parent = c.primary(t)
			case "rsa", "ecc":
				c.run(t, "tpm2_createprimary", "-C", "o", "-G", parent, "-c", "default.ctx")
				parent = "default.ctx"
			}
			c.run(t, "tpm2_create", append([]string{"-C", parent, "-G", algorithm, "-u", "tools.pub", "-r", "tools.priv"}, args...)...)
			encode := []string{"-C", parent, "-u", "tools.pub", "-r", "tools.priv", "-o", "tools.pem"}
			if len(args) > 0 {
				encode = append(encode, "-p")
			}
			os.Remove(c.file("tools.pem"))
			c.run(t, "tpm2_encodeobject", encode...)
			return c.file("tools.pem")
		}
	}
	// movable is under a storage key without fixedTPM, endorsed under an endorsement key, which
	// only a policy authorizes.
	movable := func(t *testing.T, c *chip) string {
		const handle = "0x81000101"
		c.run(t, "tpm2_create", "-C", c.primary(t), "-G", "rsa2048:aes128cfb", "-u", "par.pub", "-r", "par.priv",
			"-a", "sensitivedataorigin|userwithauth|restricted|decrypt|noda")
		c.run(t, "tpm2_load", "-C", c.primary(t), "-u", "par.pub", "-r", "par.priv", "-c", "par.ctx")
		c.run(t, "tpm2_evictcontrol", "-C", "o", "-c", "par.ctx", handle)
		return create(handle, "rsa2048", "-a", "sensitivedataorigin|userwithauth|sign|decrypt|noda")(t, c)
	}
	endorsed := func(t *testing.T, c *chip) string {
		const handle = "0x81010010"
		c.run(t, "tpm2_createek", "-c", handle, "-G", "rsa", "-u", "ek.pub")
		c.run(t, "tpm2_startauthsession", "--policy-session", "-S", "session.ctx")
		c.run(t, "tpm2_policysecret", "-S", "session.ctx", "-c", "e")
		return create(handle, "ecc256", "-P", "session:session.ctx")(t, c)
	}
	return []theirKey{
		{name: "tools rsa2048, parent without fixedTPM", lies: true, make: movable},
		{name: "tools p256, endorsement key as parent", lies: true, make: endorsed},
		{name: "tools rsa2048", lies: true, make: create(files, "rsa2048")},
		{name: "tools p384", lies: true, make: create(files, "ecc384")},
		{name: "tools p256 with a secret", secret: true, lies: true, make: create(files, "ecc256", "-p", secret)},
		{name: "tools p256, persistent parent", lies: true, make: create(srk, "ecc256")},
		{name: "tools p256, default RSA primary", lies: true, make: create("rsa", "ecc256")},
		{name: "tools p256, default ECC primary", lies: true, make: create("ecc", "ecc256")},
		{name: "tools rsassa-sha256", lies: true, make: create(files, "rsa2048:rsassa-sha256"), fixed: crypto.SHA256},
		{name: "tools rsapss-sha256", lies: true, make: create(files, "rsa2048:rsapss-sha256:null"), fixed: pssSHA256},
		{name: "tools ecdsa-sha384", lies: true, make: create(files, "ecc384:ecdsa-sha384")},
	}
}

var pssSHA256 = &rsa.PSSOptions{Hash: crypto.SHA256, SaltLength: rsa.PSSSaltLengthEqualsHash}

// keyfilesKeys are those of go-tpm-keyfiles.
func keyfilesKeys() []theirKey {
	save := func(t *testing.T, c *chip, key *keyfile.TPMKey) string {
		t.Helper()
		return c.write(t, "keyfiles.pem", key.Bytes())
	}
	loadable := func(alg tpm2.TPMAlgID, bits int, opts ...keyfile.TPMKeyOption) func(t *testing.T, c *chip) string {
		return func(t *testing.T, c *chip) string {
			tpm := c.raw(t)
			key, err := keyfile.NewLoadableKey(tpm, alg, bits, nil, opts...)
			tpm.Close()
			c.flush(t)
			if err != nil {
				t.Fatal(err)
			}
			return save(t, c, key)
		}
	}
	importable := func(private func() any, opts ...keyfile.TPMKeyOption) func(t *testing.T, c *chip) string {
		return func(t *testing.T, c *chip) string {
			tpm := c.raw(t)
			public := primary(t, tpm)
			tpm.Close()
			c.flush(t)
			key, err := keyfile.NewImportablekey(public, private(), opts...)
			if err != nil {
				t.Fatal(err)
			}
			return save(t, c, key)
		}
	}
	rsaKey := func() any { key, _ := rsa.GenerateKey(rand.Reader, 2048); return *key }
	ecKey := func() any { return *newECKey(func(x []byte) bool { return x[0] != 0 }) }
	// Go's big.Int leaves leading zeros out, and so do files made with it.
	shortKey := func() any { return *newECKey(func(x []byte) bool { return x[0] == 0 }) }
	auth, persistent := keyfile.WithUserAuth([]byte(secret)), keyfile.WithParent(0x81000001)
	return []theirKey{
		{name: "keyfiles rsa2048", make: loadable(tpm2.TPMAlgRSA, 2048)},
		{name: "keyfiles p256", make: loadable(tpm2.TPMAlgECC, 256)},
		{name: "keyfiles p521", make: loadable(tpm2.TPMAlgECC, 521)},
		{name: "keyfiles p384 with a secret", make: loadable(tpm2.TPMAlgECC, 384, auth), secret: true},
		{name: "keyfiles p256, persistent parent", make: loadable(tpm2.TPMAlgECC, 256, persistent)},
		{name: "keyfiles importable rsa2048", make: importable(rsaKey)},
		{name: "keyfiles importable p256", make: importable(ecKey)},
		{name: "keyfiles importable p256, short coordinate", make: importable(shortKey)},
		{name: "keyfiles importable p256 with a secret", make: importable(ecKey, auth), secret: true},
	}
}

// newECKey makes keys until one has an x coordinate that is good.
func newECKey(good func(x []byte) bool) *ecdsa.PrivateKey {
	for {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			panic(err)
		}
		point, err := key.PublicKey.Bytes()
		if err != nil {
			panic(err)
		}
		if good(point[1:]) { // behind the byte that says uncompressed
			return key
		}
	}
}

// primary is the public area of the primary key that files mean by the owner's
// hierarchy.
func primary(t *testing.T, tpm transport.TPM) *tpm2.TPMTPublic {
	t.Helper()
	rsp, err := tpm2.CreatePrimary{PrimaryHandle: tpm2.TPMRHOwner, InPublic: tpm2.New2B(keyfile.ECCSRK_H2_Template)}.Execute(tpm)
	if err != nil {
		t.Fatal(err)
	}
	public, err := rsp.OutPublic.Contents()
	if err != nil {
		t.Fatal(err)
	}
	return public
}
