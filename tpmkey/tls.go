package tpmkey

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/tls"
	"errors"
	"fmt"
	"maclef/internal/chip"
	"os"
	"slices"
)

// ErrWrongCertificate: the certificate is not for this key.
var ErrWrongCertificate = errors.New("the certificate is not one of this key")

// TLSCertificate returns the key with its certificate chain, for crypto/tls clients and servers.
// chain has the key's certificate and those of its issuers, PEM or DER, in any order; other PEM
// blocks are ignored. SupportedSignatureAlgorithms are exactly those that the key can do. If none
// of them is for TLS 1.3, as with a TPM 1.2, which has no RSA-PSS, tls.Config.MaxVersion must be
// set to TLS 1.2, or handshakes fail. TLSConfig does that.
//
// PrivateKey is a crypto.Decrypter only for keys that decrypt PKCS#1 v1.5, for the RSA key
// exchange of TLS 1.2, which crypto/tls has off by default. Go's server refuses TLS 1.2 with an EC key that is a crypto.Decrypter, as
// a Key is: for these keys use this function or TLSConfig.
//
// For an RSA key of a TPM 2.0 that may sign, but not decrypt, only a test signature shows whether
// TLS 1.3 is possible. It is made once for each TPM.
//
// Errors: ErrWrongCertificate; ErrNotSupported for a key that cannot sign, or has under 1024
// bits, which Go refuses; if a test signature is made, those of Sign.
func (k *Key) TLSCertificate(chain []byte) (tls.Certificate, error) {
	cert, err := k.tlsCertificate(chain)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("certificate: %w", err)
	}
	return cert, nil
}

func (k *Key) tlsCertificate(chain []byte) (cert tls.Certificate, err error) {
	if public, ok := k.Public().(*rsa.PublicKey); ok {
		if err := chip.CheckGoAccepts(public); err != nil {
			return cert, err
		}
	}
	if cert.Certificate, cert.Leaf, err = parseChain(chain, k.Public()); err != nil {
		return cert, err
	}
	if cert.SupportedSignatureAlgorithms, err = k.signatureSchemes(); err != nil {
		return cert, err
	}
	cert.PrivateKey = k.tlsPrivateKey()
	return cert, nil
}

// tlsPrivateKey returns the private key for crypto/tls. It is a crypto.Decrypter only if the key can do
// the RSA key exchange of TLS 1.2. Go's server offers that for any crypto.Decrypter, and refuses
// an EC key that is one.
func (k *Key) tlsPrivateKey() crypto.Signer {
	if public, ok := k.Public().(*rsa.PublicKey); ok {
		const premaster = 48 // RFC 5246, section 7.4.7.1
		if _, err := k.k.Ops.Decrypt(make([]byte, public.Size()), &rsa.PKCS1v15DecryptOptions{SessionKeyLen: premaster}); err == nil {
			return k
		}
	}
	return signer{k}
}

// A signer hides the other methods of a Key.
type signer struct{ messageSigner }

// TLSConfig returns a server's configuration for the key and the certificate chain in a file.
// It allows TLS 1.2 and, if the key can do it, newer versions. It makes no signatures for clients
// that have closed the connection. The caller may change the configuration.
//
// A server that gets another key, certificate or client CAs uses another configuration for new
// connections. The new one has ticket keys of its own, so that nobody resumes a session of the
// old one. But if it comes from GetConfigForClient, crypto/tls uses the ticket keys of the
// outer configuration, unless SetSessionTicketKeys is called.
//
// Errors: those of TLSCertificate; ErrNotSupported for a key that signs SHA-1 only, because
// clients refuse SHA-1 in TLS.
func (k *Key) TLSConfig(certFile string) (*tls.Config, error) {
	chain, err := os.ReadFile(certFile)
	if err != nil {
		return nil, fmt.Errorf("read certificate: %w", err)
	}
	config, err := k.TLSConfigPEM(chain)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", certFile, err)
	}
	return config, nil
}

// TLSConfigPEM is TLSConfig with the contents of the file.
func (k *Key) TLSConfigPEM(chain []byte) (*tls.Config, error) {
	cert, newest, err := k.certificateAndVersion(chain)
	if err != nil {
		return nil, err
	}
	return &tls.Config{
		GetCertificate: func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
			copied := *cert
			copied.PrivateKey = k.withConn(hello.Context(), hello.Conn).tlsPrivateKey()
			return &copied, nil
		},
		MinVersion: tls.VersionTLS12,
		MaxVersion: newest,
	}, nil
}

// TLSClientConfig is TLSConfig for a client. It sends the certificate to servers that ask for one
// and accept the key's signatures. The caller sets RootCAs if the system's roots do not verify
// the server.
func (k *Key) TLSClientConfig(certFile string) (*tls.Config, error) {
	chain, err := os.ReadFile(certFile)
	if err != nil {
		return nil, fmt.Errorf("read certificate: %w", err)
	}
	cert, newest, err := k.certificateAndVersion(chain)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", certFile, err)
	}
	return &tls.Config{
		GetClientCertificate: func(info *tls.CertificateRequestInfo) (*tls.Certificate, error) {
			if info.SupportsCertificate(cert) != nil {
				return new(tls.Certificate), nil // as crypto/tls does: the server may accept a client without certificate
			}
			copied := *cert
			copied.PrivateKey = k.WithContext(info.Context()).tlsPrivateKey()
			return &copied, nil
		},
		MinVersion: tls.VersionTLS12,
		MaxVersion: newest,
	}, nil
}

// certificateAndVersion returns the certificate, and the newest TLS version for it.
func (k *Key) certificateAndVersion(chain []byte) (*tls.Certificate, uint16, error) {
	schemes, err := k.signatureSchemes()
	if err != nil {
		return nil, 0, fmt.Errorf("use TLS: %w", err)
	}
	newest, err := newestTLS(k.Public(), schemes)
	if err != nil {
		return nil, 0, fmt.Errorf("use TLS: %w", err)
	}
	cert, err := k.TLSCertificate(chain)
	if err != nil {
		return nil, 0, err
	}
	return &cert, newest, nil
}

// signatureSchemes returns the TLS signature algorithms that the key can do, at least one.
func (k *Key) signatureSchemes() (schemes []tls.SignatureScheme, err error) {
	var why error
	for _, s := range tlsSchemes {
		if _, isRSA := k.Public().(*rsa.PublicKey); isRSA == (s.curve != nil) {
			continue
		}
		switch err := k.checkSign(s.options()); {
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

// checkSign returns why the key cannot sign. It makes a signature only if nothing else shows that.
func (k *Key) checkSign(opts crypto.SignerOpts) error {
	op, err := k.k.Ops.SignMessage(nil, opts)
	if err == nil && op.Unsure {
		_, err = k.SignMessage(nil, nil, opts)
	}
	return err
}

// A tlsScheme is a signature algorithm of TLS that Go has. RFC 8446, section 4.2.3.
type tlsScheme struct {
	scheme tls.SignatureScheme
	hash   crypto.Hash
	pss    bool
	curve  elliptic.Curve // its curve in TLS 1.3; nil for RSA
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

// noCurve is the curve of algorithms that only TLS 1.2 has.
var noCurve elliptic.Curve = &elliptic.CurveParams{}

func (s *tlsScheme) options() crypto.SignerOpts {
	if s.pss {
		return &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: s.hash}
	}
	return s.hash
}

// newestTLS returns the newest TLS version that a key's algorithms allow, 0 for the newest that
// Go has. If clients refuse all of them, it returns an error. In TLS 1.3 an EC key signs with the
// hash of its curve, and an RSA key signs RSA-PSS.
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
