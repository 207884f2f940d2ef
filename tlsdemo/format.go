package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"maclef/internal/printable"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"
)

// handshakeFailure says in short why the handshake of c failed.
func handshakeFailure(c *conn, err error, limit time.Duration) string {
	var record tls.RecordHeaderError
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return "the client hung up"
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, context.DeadlineExceeded):
		return fmt.Sprintf("not done in %v", limit)
	case errors.As(err, &record) && isHTTP(record):
		return "the client speaks HTTP, not HTTPS"
	}
	if refused := refusedClient(err); refused != "" {
		return refused
	}
	if alert, ok := c.plainAlert(); ok && strings.HasSuffix(err.Error(), "bad record MAC") {
		err = fmt.Errorf("remote error: %w", alert)
	}
	text := shortText(err.Error(), 300)
	if strings.Contains(text, "no cipher suite supported") {
		return text + " (" + noCipher(c.suites, c.identity.leaf.PublicKeyAlgorithm) + ")"
	}
	for _, m := range meanings {
		if strings.Contains(text, m.part) {
			return text + " (" + m.meaning + ")"
		}
	}
	return text
}

// meanings explain texts of crypto/tls, and of the alerts that clients send.
var meanings = []struct{ part, meaning string }{
	{"unknown certificate", "the client does not trust this certificate"},
	{"bad certificate", "the client does not trust this certificate"},
	{"expired certificate", "for the client's clock this certificate is not valid now"},
	{"unsupported certificate", "the client takes no certificate of this kind, or not for a server"},
	{"unsupported versions", "this server has TLS 1.2, and TLS 1.3 where its key can sign for that"},
	{"doesn't support any of the certificate's", "the client takes no signature that this key can make"},
	{"no key exchanges supported", "the client has no elliptic curve that this server has, such as P-256"},
	{"didn't provide a certificate", "-client-ca demands one; -client-optional does not"},
}

// plainAlert returns the alert that the client sent last, if it is not encrypted. Many
// clients, such as OpenSSL's, encrypt nothing before they have verified the server's
// certificate. In TLS 1.3, crypto/tls takes their alert for a damaged record: golang/go#51837.
func (c *conn) plainAlert() (alert tls.AlertError, ok bool) {
	const alertRecord, fatal = 21, 2
	t := c.tail
	return tls.AlertError(t[6]), t[0] == alertRecord && t[1] == 3 && t[3] == 0 && t[4] == 2 && t[5] == fatal
}

// noCipher says why no cipher suite is common. Those of this server have ECDHE, with a key of
// one kind.
func noCipher(offered []uint16, key x509.PublicKeyAlgorithm) string {
	own, other := "RSA", "ECDSA"
	if key == x509.ECDSA {
		own, other = other, own
	}
	offers := func(prefix string, suites []*tls.CipherSuite) bool {
		return slices.ContainsFunc(suites, func(s *tls.CipherSuite) bool {
			return strings.HasPrefix(s.Name, prefix) && slices.Contains(offered, s.ID)
		})
	}
	switch {
	case offers("TLS_ECDHE_"+own, tls.CipherSuites()):
		return "the client has no elliptic curve that this server has, such as P-256"
	case offers("TLS_ECDHE_"+other, tls.CipherSuites()):
		return "the client takes certificates with " + other + " keys only, and this key is " + own
	case offers("TLS_RSA_", tls.InsecureCipherSuites()):
		return "the client offers key exchange by RSA, not by ECDHE with AES-GCM, ChaCha20-Poly1305 or AES-CBC-SHA; this server needs ECDHE, for forward secrecy"
	}
	return "this server needs ECDHE with AES-GCM, ChaCha20-Poly1305 or AES-CBC-SHA"
}

// isHTTP reports whether a client sent an HTTP request instead of a TLS record.
func isHTTP(record tls.RecordHeaderError) bool {
	switch string(record.RecordHeader[:]) {
	case "GET /", "HEAD ", "POST ", "PUT /", "OPTIO":
		return true
	}
	return false
}

// shortText makes foreign text safe for one line, and cuts it after limit bytes.
func shortText(text string, limit int) string {
	if len(text) > limit {
		return printable.Line(strings.ToValidUTF8(text[:limit], "")) + "…"
	}
	return printable.Line(text)
}

// milliseconds writes a duration as "2.31 ms", with three significant digits.
func milliseconds(d time.Duration) string {
	ms := d.Seconds() * 1000
	switch {
	case ms < 10:
		return fmt.Sprintf("%.2f ms", ms)
	case ms < 100:
		return fmt.Sprintf("%.1f ms", ms)
	}
	return fmt.Sprintf("%.0f ms", ms)
}
