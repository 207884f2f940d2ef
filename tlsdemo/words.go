package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// handshakeFailure says why a client's handshake failed, in words.
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
	text := printable(err.Error(), 300)
	for _, m := range meanings {
		if strings.Contains(text, m.part) {
			return text + " (" + m.meaning + ")"
		}
	}
	return text
}

// meanings explain what clients and crypto/tls say.
var meanings = []struct{ part, meaning string }{
	{"unknown certificate", "the client does not trust this certificate"},
	{"bad certificate", "the client does not trust this certificate"},
	{"unsupported versions", "this server has TLS 1.2, and TLS 1.3 where its key can sign for that"},
	{"no cipher suite supported", "the client has none for a key of this kind, RSA or ECDSA"},
	{"doesn't support any of the certificate's", "the client takes no signature that this key can make"},
}

// isHTTP reports whether what should have been a TLS record begins an HTTP
// request.
func isHTTP(record tls.RecordHeaderError) bool {
	switch string(record.RecordHeader[:]) {
	case "GET /", "HEAD ", "POST ", "PUT /", "OPTIO":
		return true
	}
	return false
}

// printable makes foreign text fit for one line: at most limit bytes, what does
// not print as its escape.
func printable(text string, limit int) string {
	cut := ""
	if len(text) > limit {
		text, cut = strings.ToValidUTF8(text[:limit], ""), "…"
	}
	var b strings.Builder
	for _, r := range text {
		if strconv.IsPrint(r) {
			b.WriteRune(r)
			continue
		}
		quoted := strconv.QuoteRuneToASCII(r)
		b.WriteString(quoted[1 : len(quoted)-1])
	}
	return b.String() + cut
}

// milliseconds writes a duration as "2.31 ms", with three digits that count.
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
