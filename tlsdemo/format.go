package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"maclef/internal/printable"
	"os"
	"strings"
	"syscall"
	"time"
)

// handshakeFailure says in short why a handshake failed.
func handshakeFailure(err error, limit time.Duration) string {
	var record tls.RecordHeaderError
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return "the client hung up"
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, context.DeadlineExceeded):
		return fmt.Sprintf("not done in %v", limit)
	case errors.As(err, &record) && isHTTP(record):
		return "the client speaks HTTP, not HTTPS"
	}
	text := shortText(err.Error(), 300)
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
	{"unsupported versions", "this server has TLS 1.2, and TLS 1.3 where its key can sign for that"},
	{"no cipher suite supported", "the client has none for a key of this kind, RSA or ECDSA"},
	{"doesn't support any of the certificate's", "the client takes no signature that this key can make"},
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
