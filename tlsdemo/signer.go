package main

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"time"
)

// A signer is the key, for the handshake of one connection. It records which algorithm
// crypto/tls chose: tls.ConnectionState does not tell.
type signer struct {
	messageSigner
	conn  *conn
	stats *stats
}

// A messageSigner is a crypto.MessageSigner, which Go has from version 1.25 on.
type messageSigner interface {
	crypto.Signer
	SignMessage(rand io.Reader, message []byte, opts crypto.SignerOpts) (signature []byte, err error)
}

// SignMessage is what crypto/tls calls from Go 1.25 on.
func (s *signer) SignMessage(rand io.Reader, message []byte, opts crypto.SignerOpts) ([]byte, error) {
	return s.record(s.messageSigner.SignMessage, rand, message, opts)
}

// Sign is what older versions of crypto/tls call.
func (s *signer) Sign(rand io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	return s.record(s.messageSigner.Sign, rand, digest, opts)
}

func (s *signer) record(sign func(io.Reader, []byte, crypto.SignerOpts) ([]byte, error), rand io.Reader, in []byte, opts crypto.SignerOpts) ([]byte, error) {
	s.conn.limiter.setState(s.conn, signing)
	begin := time.Now()
	signature, err := sign(rand, in, opts)
	if err != nil {
		s.conn.signErr, s.conn.waited = err, time.Since(begin)
		return nil, err
	}
	s.conn.sample = s.stats.signed(time.Since(begin))
	s.conn.algorithm = algorithm(s.Public(), opts)
	return signature, nil
}

// recordHello records what a client offers, and changes no configuration.
func recordHello(hello *tls.ClientHelloInfo) (*tls.Config, error) {
	if c, ok := hello.Conn.(*conn); ok {
		c.suites = hello.CipherSuites
	}
	return nil, nil
}

// recordSignatures wraps the GetCertificate of package tpmkey: each connection gets a
// signer of its own.
func recordSignatures(get func(*tls.ClientHelloInfo) (*tls.Certificate, error), stats *stats) func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	return func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
		c, ok := hello.Conn.(*conn)
		if !ok {
			return nil, fmt.Errorf("a connection of type %T", hello.Conn)
		}
		cert, err := get(hello)
		if err != nil {
			return nil, err
		}
		own := *cert
		own.PrivateKey = &signer{cert.PrivateKey.(messageSigner), c, stats}
		return &own, nil
	}
}

// gaveUp reports whether an error of the key says that the client did not wait for the
// signature.
func gaveUp(err error) bool {
	return errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
}

// algorithm returns IANA's name of a TLS signature scheme: RFC 8446, section 4.2.3. TLS
// 1.2 allows ECDSA with any hash on any curve; TLS 1.3 has names for some pairs only.
func algorithm(public crypto.PublicKey, opts crypto.SignerOpts) string {
	hash := opts.HashFunc()
	bits := hash.Size() * 8
	switch k := public.(type) {
	case *rsa.PublicKey:
		if _, pss := opts.(*rsa.PSSOptions); pss {
			return fmt.Sprintf("rsa_pss_rsae_sha%d", bits)
		}
		if hash == crypto.MD5SHA1 {
			return "rsa_pkcs1_md5_sha1"
		}
		if hash == crypto.SHA1 {
			return "rsa_pkcs1_sha1"
		}
		return fmt.Sprintf("rsa_pkcs1_sha%d", bits)
	case *ecdsa.PublicKey:
		curve := k.Curve.Params().BitSize
		if curve == bits || curve == 521 && bits == 512 {
			return fmt.Sprintf("ecdsa_secp%dr1_sha%d", curve, bits)
		}
		if hash == crypto.SHA1 {
			return "ecdsa_sha1"
		}
		return fmt.Sprintf("ecdsa_sha%d", bits)
	case ed25519.PublicKey:
		return "ed25519"
	}
	return hash.String()
}
