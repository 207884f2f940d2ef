package main

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"math"
	"net/http"
	"slices"
	"strings"
	"time"

	"maclef/internal/certfile"
	"maclef/internal/cli"
)

// askClients has the server ask clients for a certificate of one of the client CAs.
func (id *identity) askClients(o *options) error {
	cas, err := certfile.Parse(id.files.clientCAs)
	if err != nil {
		return cli.WithHint(fmt.Errorf("%s: client CAs: %w", *o.clientCA, err), "-client-ca takes certificates, PEM or DER, one after another")
	}
	pool, names := x509.NewCertPool(), 0
	for _, ca := range cas {
		pool.AddCert(ca)
		names += 2 + len(ca.RawSubject)
		if invalid := cmp.Or(validity(ca, time.Now()).invalid, notForClients(ca)); invalid != "" {
			id.warnings = append(id.warnings, fmt.Sprintf("the client CA %s of %s %s; clients with its certificates are refused",
				shortText(subject(ca), 300), *o.clientCA, invalid))
		}
	}
	if names > math.MaxUint16 { // RFC 8446, section 4.2.4
		return cli.WithHint(fmt.Errorf("%s: client CAs: their names have %d bytes, and TLS tells clients at most %d", *o.clientCA, names, math.MaxUint16),
			"leave out the CAs that issue for none of your clients")
	}
	id.config.ClientCAs, id.config.ClientAuth = pool, tls.RequireAndVerifyClientCert
	if *o.clientOptional {
		id.config.ClientAuth = tls.VerifyClientCertIfGiven
	}
	return nil
}

// notForClients says why no client can have a certificate of a CA; empty if some can. The extended
// key usage of a CA limits that of its certificates, as crypto/x509 has it.
func notForClients(ca *x509.Certificate) string {
	if len(ca.ExtKeyUsage)+len(ca.UnknownExtKeyUsage) == 0 ||
		slices.Contains(ca.ExtKeyUsage, x509.ExtKeyUsageClientAuth) || slices.Contains(ca.ExtKeyUsage, x509.ExtKeyUsageAny) {
		return ""
	}
	return "has an extended key usage that is not for clients: it lacks clientAuth"
}

// admits reports whether the client of a request is one that now may connect. Its connection
// may be older than the client CAs.
func (s *server) admits(r *http.Request) bool {
	now := s.identity().config
	if connOfRequest(r).identity.config == now || now.ClientCAs == nil {
		return true
	}
	chain := r.TLS.PeerCertificates
	if len(chain) == 0 {
		return now.ClientAuth == tls.VerifyClientCertIfGiven
	}
	opts := x509.VerifyOptions{
		Roots: now.ClientCAs, Intermediates: x509.NewCertPool(), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	for _, cert := range chain[1:] {
		opts.Intermediates.AddCert(cert)
	}
	_, err := chain[0].Verify(opts)
	return err == nil
}

// subject says whose a certificate is. Some have no subject, only other names.
func subject(cert *x509.Certificate) string {
	names := append(append([]string{}, cert.DNSNames...), cert.EmailAddresses...)
	for _, ip := range cert.IPAddresses {
		names = append(names, ip.String())
	}
	for _, uri := range cert.URIs {
		names = append(names, uri.String())
	}
	return cmp.Or(cert.Subject.String(), strings.Join(names, ", "), "serial number "+cert.SerialNumber.String())
}

// refusedClient says why the server does not accept the certificate of a client; empty if
// that is not why the handshake failed.
func refusedClient(err error) string {
	var refused *tls.CertificateVerificationError
	if !errors.As(err, &refused) {
		return ""
	}
	cert, meaning := refused.UnverifiedCertificates[0], ""
	var unknown x509.UnknownAuthorityError
	var invalid x509.CertificateInvalidError
	switch {
	case errors.As(err, &unknown):
		meaning = " (no CA of -client-ca has issued it)"
	case errors.As(err, &invalid) && invalid.Reason == x509.IncompatibleUsage:
		meaning = " (its extended key usage is not for clients: it lacks clientAuth)"
	}
	return fmt.Sprintf("the certificate of the client %s: %s%s", shortText(subject(cert), 300), shortText(refused.Err.Error(), 300), meaning)
}
