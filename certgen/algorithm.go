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
// it, or if -allow-sha1 does and the key signs nothing else, because nobody accepts such certificates
// any more.
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
		if o.mdGiven && a.md != *o.md || !o.mdGiven && a.md == "sha1" && !*o.allowSHA1 {
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
	return nil, o.explainHash(file, all, first)
}

// cannotSign is the error for a key that does not sign.
func cannotSign(file blob.Key) error {
	err := tpmkey.CheckSignMessage(file, nil, crypto.SHA256)
	if k, ok := file.(*blob.TPMKey); ok { // a better message
		err = fmt.Errorf("this key cannot sign: its usage is %v, its signature scheme %v", k.Usage, k.SigScheme)
	}
	return cli.WithHint(err, "make a key that signs with keygen; tpmctl inspect says what this one is for")
}

// explainHash adds to why the key does not sign with -md what it can sign with instead.
func (o *options) explainHash(file blob.Key, all []algorithm, err error) error {
	md, flag := *o.md, "-md sha1"
	if *o.ca || o.issues() || *o.crl {
		flag = "-allow-sha1"
	}
	for _, a := range all {
		if tpmkey.CheckSignMessage(file, nil, a.opts) != nil {
			continue
		}
		if a.md == "sha1" {
			asked := all[slices.IndexFunc(all, func(a algorithm) bool { return a.md == md })].opts.HashFunc()
			return cli.WithHint(fmt.Errorf("this key signs SHA-1 digests only, not %v", asked),
				"make another key with keygen; if whoever checks the certificate still accepts SHA-1, add "+flag)
		}
		return cli.WithHint(fmt.Errorf("this key cannot sign with -md %s: %w", md, err), "use the key's own hash: -md "+a.md)
	}
	return fmt.Errorf("this key cannot sign a certificate: %w", err)
}
