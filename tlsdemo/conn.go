package main

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"sync"
	"time"
)

// A conn is a client's connection, under TLS, and what its handshake cost.
type conn struct {
	net.Conn
	leave func() // called once, at Close
	once  sync.Once

	// Written in the handshake, only read afterwards.
	sample    sample // zero where nothing was signed
	algorithm string // IANA's name: "rsa_pkcs1_sha256"
	signErr   error
}

func (c *conn) Close() error {
	defer c.once.Do(c.leave)
	return c.Conn.Close()
}

// A signer is the key, for one connection. crypto/tls tells nobody which
// algorithm it chose; here is where it shows.
type signer struct {
	crypto.Signer
	conn  *conn
	stats *stats
}

func (s *signer) Sign(rand io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	begin := time.Now()
	signature, err := s.Signer.Sign(rand, digest, opts)
	if err != nil {
		s.conn.signErr = err
		return nil, err
	}
	s.conn.sample = s.stats.signed(time.Since(begin))
	s.conn.algorithm = algorithm(s.Public(), opts)
	return signature, nil
}

// certificates returns what a tls.Config asks for a certificate: that of id,
// with a signer of the connection's own.
func certificates(id *identity, stats *stats) func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	return func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
		c, ok := hello.Conn.(*conn)
		if !ok {
			return nil, fmt.Errorf("a connection of type %T", hello.Conn)
		}
		cert := id.cert
		cert.PrivateKey = &signer{cert.PrivateKey.(crypto.Signer), c, stats}
		return &cert, nil
	}
}

// algorithm is IANA's name of a TLS signature scheme: RFC 8446, section 4.2.3.
func algorithm(public crypto.PublicKey, opts crypto.SignerOpts) string {
	hash := opts.HashFunc()
	bits := hash.Size() * 8
	switch public.(type) {
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
		return fmt.Sprintf("ecdsa_sha%d", bits)
	case ed25519.PublicKey:
		return "ed25519"
	}
	return hash.String()
}
