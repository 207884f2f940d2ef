package tpmkey

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/tls"
	"errors"
	"fmt"
	"slices"
)

// signatureSchemes are the TLS signature algorithms that the key can do, at least
// one.
func (k *Key) signatureSchemes() (schemes []tls.SignatureScheme, err error) {
	var why error
	for _, s := range tlsSchemes {
		if _, isRSA := k.public.(*rsa.PublicKey); isRSA == (s.curve != nil) {
			continue
		}
		switch err := k.tries(make([]byte, s.hash.Size()), s.options()); {
		case err == nil:
			schemes = append(schemes, s.scheme)
		case !errors.Is(err, ErrNotSupported):
			return nil, err
		case why == nil:
			why = err
		}
	}
	if schemes == nil {
		return nil, why
	}
	return schemes, nil
}

// tries returns why the key cannot sign. Only where nothing else tells, it signs.
func (k *Key) tries(digest []byte, opts crypto.SignerOpts) error {
	s, err := k.abilities.checkSign(digest, opts)
	if err == nil && s.unsure() {
		_, err = k.Sign(nil, digest, opts)
	}
	return err
}

// A tlsScheme is a signature algorithm of TLS that Go has: RFC 8446, section 4.2.3.
type tlsScheme struct {
	scheme tls.SignatureScheme
	hash   crypto.Hash
	pss    bool
	curve  elliptic.Curve // with which TLS 1.3 has it; nil for RSA
}

var tlsSchemes = []tlsScheme{
	{tls.PKCS1WithSHA256, crypto.SHA256, false, nil}, {tls.PKCS1WithSHA384, crypto.SHA384, false, nil},
	{tls.PKCS1WithSHA512, crypto.SHA512, false, nil}, {tls.PKCS1WithSHA1, crypto.SHA1, false, nil},
	{tls.PSSWithSHA256, crypto.SHA256, true, nil}, {tls.PSSWithSHA384, crypto.SHA384, true, nil},
	{tls.PSSWithSHA512, crypto.SHA512, true, nil},
	{tls.ECDSAWithP256AndSHA256, crypto.SHA256, false, elliptic.P256()},
	{tls.ECDSAWithP384AndSHA384, crypto.SHA384, false, elliptic.P384()},
	{tls.ECDSAWithP521AndSHA512, crypto.SHA512, false, elliptic.P521()},
	{tls.ECDSAWithSHA1, crypto.SHA1, false, noCurve},
}

// noCurve is the curve of what TLS 1.2 alone has.
var noCurve elliptic.Curve = &elliptic.CurveParams{}

func (s *tlsScheme) options() crypto.SignerOpts {
	if s.pss {
		return &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: s.hash}
	}
	return s.hash
}

// newestTLS is the newest version that some of a key's algorithms serve, 0 for the
// newest that Go has, and for none where clients refuse all of them. In TLS 1.3, an EC
// key signs with the hash of its curve, and an RSA key RSA-PSS.
func newestTLS(public crypto.PublicKey, schemes []tls.SignatureScheme) (version uint16, err error) {
	version, err = tls.VersionTLS12, fmt.Errorf("%w: the key signs SHA-1 only, and TLS clients refuse SHA-1; make another key", ErrNotSupported)
	for _, s := range tlsSchemes {
		if !slices.Contains(schemes, s.scheme) || s.hash == crypto.SHA1 {
			continue
		}
		err = nil
		if own, ok := public.(*ecdsa.PublicKey); s.pss || ok && own.Curve == s.curve {
			version = 0
		}
	}
	return version, err
}
