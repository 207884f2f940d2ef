package main

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"maclef/blob"
)

// parseCertificate reads a file that holds one PEM certificate and nothing else.
func parseCertificate(ts *testscript.TestScript, name string) *x509.Certificate {
	block, rest := pem.Decode([]byte(ts.ReadFile(name)))
	if block == nil || block.Type != "CERTIFICATE" || len(rest) > 0 {
		ts.Fatalf("%s is not one certificate in PEM", name)
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	ts.Check(err)
	return cert
}

// checkFacts checks what every certificate of ours has. SHA-1 certificates have
// their signature checked by openssl: Go does not.
func checkFacts(cert *x509.Certificate, key blob.Key) error {
	serial := cert.SerialNumber
	now := time.Now()
	public := key.PublicKey().(interface{ Equal(crypto.PublicKey) bool })
	id, err := keyID(public)
	switch {
	case err != nil:
		return err
	case !public.Equal(cert.PublicKey):
		return errors.New("it has another key")
	case serial.Sign() <= 0 || serial.BitLen() > 159 || serial.BitLen() < 128:
		return fmt.Errorf("serial number %x", serial)
	case !bytes.Equal(cert.RawIssuer, cert.RawSubject):
		return errors.New("issuer and subject differ")
	case now.Before(cert.NotBefore) || now.Sub(cert.NotBefore) > time.Hour:
		return fmt.Errorf("it begins at %v", cert.NotBefore)
	case !bytes.Equal(cert.SubjectKeyId, id):
		return fmt.Errorf("subject key identifier %x", cert.SubjectKeyId)
	case !cert.BasicConstraintsValid:
		return errors.New("no basic constraints")
	}
	if len(cert.DNSNames) > 0 { // as a client does that was given it to trust
		roots := x509.NewCertPool()
		roots.AddCert(cert)
		if _, err := cert.Verify(x509.VerifyOptions{Roots: roots, DNSName: cert.DNSNames[0]}); err != nil {
			return err
		}
	}
	if cert.SignatureAlgorithm == x509.SHA1WithRSA {
		return nil
	}
	return cert.CheckSignature(cert.SignatureAlgorithm, cert.RawTBSCertificate, cert.Signature)
}
