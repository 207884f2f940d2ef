package tpmkey

import (
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"slices"
)

// ErrWrongCertificate: the certificate is that of another key.
var ErrWrongCertificate = errors.New("the certificate is not one of this key")

// TLSCertificate returns the key with its certificate chain, PEM, its own
// certificate first, for crypto/tls on either side. Its signature algorithms
// are exactly those that the key can do: PKCS#1 v1.5, which TLS 1.2 has and TLS
// 1.3 has not. So limit tls.Config.MaxVersion to TLS 1.2, too: without both, TLS
// 1.3 is chosen and fails.
//
// Errors: ErrWrongCertificate; ErrNotSupported for a key that cannot sign, or
// has under 1024 bits, which Go refuses.
func (k *Key) TLSCertificate(chainPEM []byte) (tls.Certificate, error) {
	cert, err := k.tlsCertificate(chainPEM)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("certificate: %w", err)
	}
	return cert, nil
}

func (k *Key) tlsCertificate(chainPEM []byte) (cert tls.Certificate, err error) {
	if err := checkGoAccepts(k.file.RSAPublicKey()); err != nil {
		return cert, err
	}
	if cert.SupportedSignatureAlgorithms, err = k.signatureSchemes(); err != nil {
		return cert, err
	}
	cert.Certificate, cert.Leaf, err = parseChain(chainPEM)
	if err != nil {
		return cert, err
	}
	if !k.file.RSAPublicKey().Equal(cert.Leaf.PublicKey) {
		return cert, fmt.Errorf("%w; its subject is %q", ErrWrongCertificate, cert.Leaf.Subject)
	}
	cert.PrivateKey = k
	return cert, nil
}

// parseChain reads the certificates of a PEM file.
func parseChain(chainPEM []byte) (chain [][]byte, leaf *x509.Certificate, err error) {
	for rest := chainPEM; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			return nil, nil, fmt.Errorf("a %q where only certificates (PEM) belong", block.Type)
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, nil, err
		}
		if leaf == nil {
			leaf = cert
		}
		chain = append(chain, block.Bytes)
	}
	if leaf == nil {
		return nil, nil, errors.New("no certificate (PEM) in it")
	}
	return chain, leaf, nil
}

// signatureSchemes are the TLS signature algorithms that the key can do.
func (k *Key) signatureSchemes() ([]tls.SignatureScheme, error) {
	if !k.file.CanSign() {
		return nil, fmt.Errorf("%w: a %v key cannot sign", ErrNotSupported, k.file.Usage)
	}
	var schemes []tls.SignatureScheme
	for _, s := range []tls.SignatureScheme{tls.PKCS1WithSHA256, tls.PKCS1WithSHA384, tls.PKCS1WithSHA512, tls.PKCS1WithSHA1} {
		hash := hashOfScheme[s]
		if _, err := k.abilities.checkSign(make([]byte, hash.Size()), hash); err == nil {
			schemes = append(schemes, s)
		}
	}
	return schemes, nil
}

// hashOfScheme are the hashes of RFC 8446, section 4.2.3 (RSASSA-PKCS1-v1_5).
var hashOfScheme = map[tls.SignatureScheme]crypto.Hash{
	tls.PKCS1WithSHA256: crypto.SHA256, tls.PKCS1WithSHA384: crypto.SHA384,
	tls.PKCS1WithSHA512: crypto.SHA512, tls.PKCS1WithSHA1: crypto.SHA1,
}

// TLSConfig returns a server's configuration for the key and the certificate
// chain in a PEM file: TLS 1.2, with what the key can do. Signatures for clients
// that have hung up meanwhile are not made (see WithConn). It is a new one at each
// call, the caller's to change.
//
// Errors: those of TLSCertificate; ErrNotSupported for a key of the SHA1
// signature scheme, because clients refuse SHA-1 in TLS.
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

// TLSConfigPEM is TLSConfig for a chain that was read already.
func (k *Key) TLSConfigPEM(chainPEM []byte) (*tls.Config, error) {
	schemes, err := k.signatureSchemes()
	if err != nil {
		return nil, fmt.Errorf("serve TLS: %w", err)
	}
	if !slices.Contains(schemes, tls.PKCS1WithSHA256) {
		return nil, fmt.Errorf("serve TLS: %w: the key signs SHA-1 only, and TLS clients refuse SHA-1; make a DER key", ErrNotSupported)
	}
	cert, err := k.TLSCertificate(chainPEM)
	if err != nil {
		return nil, err
	}
	return &tls.Config{
		GetCertificate: func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
			own := cert
			own.PrivateKey = k.WithConn(hello.Context(), hello.Conn)
			return &own, nil
		},
		MinVersion: tls.VersionTLS12,
		MaxVersion: tls.VersionTLS12,
	}, nil
}
