package main

import (
	"crypto"
	"crypto/rsa"
	"crypto/x509"
	"fmt"
	"slices"

	"maclef/blob"
	"maclef/internal/chip"
	"maclef/internal/cli"
	"maclef/tpmkey"
)

// An algorithm is a way to sign a certificate.
type algorithm struct {
	md   string // hash name in -md
	x509 x509.SignatureAlgorithm
	opts crypto.SignerOpts
}

// hashFlags are the values of -md, the default first.
var hashFlags = []string{"sha256", "sha384", "sha512", "sha1"}

// pss is RSA-PSS for certificates: RFC 4055, section 3.1.
func pss(hash crypto.Hash) crypto.SignerOpts {
	return &rsa.PSSOptions{Hash: hash, SaltLength: rsa.PSSSaltLengthEqualsHash}
}

// rsaAlgorithms and ecdsaAlgorithms are tried in this order.
var (
	rsaAlgorithms = []algorithm{
		{"sha256", x509.SHA256WithRSA, crypto.SHA256}, {"sha256", x509.SHA256WithRSAPSS, pss(crypto.SHA256)},
		{"sha384", x509.SHA384WithRSA, crypto.SHA384}, {"sha384", x509.SHA384WithRSAPSS, pss(crypto.SHA384)},
		{"sha512", x509.SHA512WithRSA, crypto.SHA512}, {"sha512", x509.SHA512WithRSAPSS, pss(crypto.SHA512)},
		{"sha1", x509.SHA1WithRSA, crypto.SHA1},
	}
	ecdsaAlgorithms = []algorithm{
		{"sha256", x509.ECDSAWithSHA256, crypto.SHA256}, {"sha384", x509.ECDSAWithSHA384, crypto.SHA384},
		{"sha512", x509.ECDSAWithSHA512, crypto.SHA512}, {"sha1", x509.ECDSAWithSHA1, crypto.SHA1},
	}
)

// readKey reads the key file and chooses the algorithm. It refuses a key that cannot sign the
// certificate before the TPM is used for anything but reading a persistent key.
func readKey(env *cli.Env, o *options) (blob.Key, *algorithm, error) {
	file, err := env.ReadKey(o.key)
	if err != nil {
		return nil, nil, err
	}
	alg, err := o.algorithm(file)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", nameOf(*o.key.Path, "standard input"), err)
	}
	return file, alg, nil
}

// algorithm chooses how the key signs, or returns why it cannot. It uses SHA-1 only if -md asks for
// it, because nobody accepts such certificates any more.
func (o *options) algorithm(file blob.Key) (*algorithm, error) {
	if !file.CanSign() {
		return nil, cannotSign(file)
	}
	all := ecdsaAlgorithms
	if public, ok := file.PublicKey().(*rsa.PublicKey); ok {
		if err := chip.CheckGoAccepts(public); err != nil {
			return nil, cli.WithHint(err, "make a larger key with keygen")
		}
		all = rsaAlgorithms
	}
	var first error
	for _, a := range all {
		if o.mdGiven && a.md != *o.md || !o.mdGiven && a.md == "sha1" {
			continue
		}
		err := tpmkey.CheckSignMessage(file, nil, a.opts)
		if err == nil {
			return &a, nil
		}
		if first == nil {
			first = err
		}
	}
	return nil, explainHash(file, all, *o.md, first)
}

// cannotSign is the error for a key that does not sign.
func cannotSign(file blob.Key) error {
	err := tpmkey.CheckSignMessage(file, nil, crypto.SHA256)
	if k, ok := file.(*blob.TPMKey); ok { // a better message
		err = fmt.Errorf("this key cannot sign: its usage is %v, its signature scheme %v", k.Usage, k.SigScheme)
	}
	return cli.WithHint(err, "make a key that signs with keygen; tpmctl inspect says what this one is for")
}

// explainHash adds the hash that the key can sign with instead of md.
func explainHash(file blob.Key, all []algorithm, md string, err error) error {
	if k, ok := file.(*blob.TPMKey); ok && k.SigScheme == blob.SSRSASSAPKCS1v15SHA1 {
		return cli.WithHint(
			fmt.Errorf("this key has the SHA1 signature scheme: it signs SHA-1 digests only, not %v", all[slices.IndexFunc(all, func(a algorithm) bool { return a.md == md })].opts.HashFunc()),
			"add -md sha1, or make a key of the DER scheme (keygen -q der)")
	}
	for _, a := range all {
		if tpmkey.CheckSignMessage(file, nil, a.opts) == nil {
			return cli.WithHint(fmt.Errorf("this key cannot sign with -md %s: %w", md, err), "use the key's own hash: -md "+a.md)
		}
	}
	return err
}

// serverUsage returns the key usage for a TLS server. A key that decrypts PKCS#1 v1.5 can also do
// RSA key exchange in TLS 1.2.
func serverUsage(file blob.Key) x509.KeyUsage {
	usage := x509.KeyUsageDigitalSignature
	public, ok := file.PublicKey().(*rsa.PublicKey)
	if ok && tpmkey.CheckDecrypt(file, make([]byte, public.Size()), &rsa.PKCS1v15DecryptOptions{}) == nil {
		usage |= x509.KeyUsageKeyEncipherment
	}
	return usage
}
