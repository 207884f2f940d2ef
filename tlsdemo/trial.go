package main

import (
	"crypto"
	"crypto/rsa"
	"crypto/tls"
	"errors"
	"fmt"

	"maclef/internal/cli"
	"maclef/tpmkey"
)

// try signs in a way that the key can, which TLS would choose, too.
func try(key *tpmkey.Key, schemes []tls.SignatureScheme) error {
	opts := signOptions(schemes[0])
	digest := opts.HashFunc().New()
	digest.Write([]byte("tlsdemo"))
	_, err := key.Sign(nil, digest.Sum(nil), opts)
	return err
}

// signOptions are what a signature algorithm of TLS is to a crypto.Signer: RFC 8446,
// section 4.2.3. Other than crypto/tls's it knows no SHA-1, which no key is served with.
func signOptions(scheme tls.SignatureScheme) crypto.SignerOpts {
	switch scheme {
	case tls.PSSWithSHA256, tls.PSSWithSHA384, tls.PSSWithSHA512:
		hash := map[tls.SignatureScheme]crypto.Hash{
			tls.PSSWithSHA256: crypto.SHA256, tls.PSSWithSHA384: crypto.SHA384, tls.PSSWithSHA512: crypto.SHA512,
		}[scheme]
		return &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: hash}
	case tls.PKCS1WithSHA384, tls.ECDSAWithP384AndSHA384:
		return crypto.SHA384
	case tls.PKCS1WithSHA512, tls.ECDSAWithP521AndSHA512:
		return crypto.SHA512
	}
	return crypto.SHA256
}

// misfit says what to do about a key or a certificate that cannot serve TLS. For some
// keys of a TPM 2.0 only a signature tells, so the secret, or the policy, may be why.
func misfit(err error, o *options) error {
	key, file := *o.key, *o.key
	if _, handle, _ := tpmkey.ParseHandle(key); handle || key == "-" {
		file = "maclef"
	}
	switch {
	case errors.Is(err, tpmkey.ErrWrongCertificate):
		return cli.WithHint(fmt.Errorf("%s: %w", *o.cert, err),
			fmt.Sprintf("make one for this key: certgen -key %s -out %s.crt, then tlsdemo -key %s -cert %s.crt", key, file, key, file))
	case errors.Is(err, tpmkey.ErrNotSupported):
		return cli.WithHint(fmt.Errorf("%s: %w", key, err), "make another key: keygen "+file+"2")
	case known(err):
		return fmt.Errorf("try the key %s: %w", key, err)
	}
	return cli.WithHint(fmt.Errorf("%s: %w", *o.cert, err), "certgen makes a certificate")
}
