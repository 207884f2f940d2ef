package main

import (
	"container/list"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"time"
)

// A conn is a client's connection, under TLS, and what its handshake cost.
type conn struct {
	net.Conn
	client netip.Addr
	room   *room
	hello  hello

	// The room's.
	crowd   *crowd // nil while it is in none
	place   *list.Element
	since   time.Time // in the crowd
	working int       // for so many reasons it is in none
	engaged bool      // a request has come
	pushed  bool      // closed to make room
	left    bool

	// Written in the handshake, only read afterwards.
	sample    sample // zero where nothing was signed
	algorithm string // IANA's name: "rsa_pkcs1_sha256"
	signErr   error
	waited    time.Duration // for signErr
}

func newConn(raw net.Conn, room *room) *conn {
	return &conn{Conn: raw, client: clientAddr(raw.RemoteAddr()), room: room}
}

// NetConn is what it is on: where package tpmkey looks whether the client is
// still there.
func (c *conn) NetConn() net.Conn { return c.Conn }

func (c *conn) Close() error {
	defer c.room.leave(c)
	return c.Conn.Close()
}

// A signer is the key, for the handshake of one connection. crypto/tls tells
// nobody which algorithm it chose; here is where it shows.
type signer struct {
	crypto.Signer
	conn  *conn
	stats *stats
}

func (s *signer) Sign(rand io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	s.conn.room.signing(s.conn)
	defer s.conn.room.rest(s.conn)
	begin := time.Now()
	signature, err := s.Signer.Sign(rand, digest, opts)
	if err != nil {
		s.conn.signErr, s.conn.waited = err, time.Since(begin)
		return nil, err
	}
	s.conn.sample = s.stats.signed(time.Since(begin))
	s.conn.algorithm = algorithm(s.Public(), opts)
	return signature, nil
}

// observed is what a tls.Config asks for a certificate: what package tpmkey has
// it ask, with a signer of the connection's own.
func observed(get func(*tls.ClientHelloInfo) (*tls.Certificate, error), stats *stats) func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
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
		own.PrivateKey = &signer{cert.PrivateKey.(crypto.Signer), c, stats}
		return &own, nil
	}
}

// gaveUp reports whether an error of the key says that nobody waits for the
// signature any more.
func gaveUp(err error) bool {
	return errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
}

// algorithm is IANA's name of a TLS signature scheme: RFC 8446, section 4.2.3.
// TLS 1.2 has ECDSA with any hash and curve, which has a name of its own where the two
// do not belong together.
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
