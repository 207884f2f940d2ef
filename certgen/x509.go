package main

import (
	"crypto"
	"crypto/rand"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"strings"
	"time"

	"maclef/tpmkey"
)

// clockSkew is how far NotBefore lies in the past, because clocks differ.
const clockSkew = 5 * time.Minute

// A product is the content of the output file.
type product struct {
	pemType string
	der     []byte
	what    string // description for messages
}

// certificate makes a self-signed certificate. crypto/x509 chooses a serial number of 159 random
// bits.
func certificate(o *options, key *tpmkey.Key, alg *algorithm, now time.Time) (*product, error) {
	id, err := keyID(key.Public())
	if err != nil {
		return nil, err
	}
	begin := now.UTC().Truncate(time.Second).Add(-clockSkew)
	template := &x509.Certificate{
		RawSubject:            o.subject.marshal(),
		NotBefore:             begin,
		NotAfter:              begin.Add(time.Duration(*o.days) * 24 * time.Hour),
		DNSNames:              o.hosts.names,
		IPAddresses:           o.hosts.netIPs(),
		SignatureAlgorithm:    alg.x509,
		SubjectKeyId:          id,
		BasicConstraintsValid: true,
	}
	kind := "certificate"
	if *o.ca {
		kind = "CA certificate"
		template.IsCA = true
		template.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageCRLSign
	} else {
		template.KeyUsage = serverUsage(key.File())
		template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	return &product{"CERTIFICATE", der, describe(kind, o, template, der)}, nil
}

// request makes a certificate request (PKCS #10, RFC 2986).
func request(o *options, key *tpmkey.Key, alg *algorithm, _ time.Time) (*product, error) {
	template := &x509.CertificateRequest{
		RawSubject:         o.subject.marshal(),
		DNSNames:           o.hosts.names,
		IPAddresses:        o.hosts.netIPs(),
		SignatureAlgorithm: alg.x509,
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, template, key)
	if err != nil {
		return nil, err
	}
	of := "without a subject"
	if len(o.subject.rdns) > 0 {
		of = "of " + o.subject.String()
	}
	what := fmt.Sprintf("certificate request %s for %s", of, strings.ReplaceAll(o.hosts.String(), ",", ", "))
	return &product{"CERTIFICATE REQUEST", der, what}, nil
}

// describe describes a certificate, with the fingerprint that browsers show.
func describe(kind string, o *options, template *x509.Certificate, der []byte) string {
	const day = "2006-01-02"
	hex := fmt.Sprintf("% X", sha256.Sum256(der))
	return fmt.Sprintf("%s of %s, valid from %s to %s, SHA-256 fingerprint %s", kind, o.subject,
		template.NotBefore.Format(day), template.NotAfter.Format(day), strings.ReplaceAll(hex, " ", ":"))
}

// keyID returns the usual subject key identifier: RFC 5280, section 4.2.1.2, method 1.
func keyID(public crypto.PublicKey) ([]byte, error) {
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		return nil, err
	}
	var spki struct {
		Algorithm pkix.AlgorithmIdentifier
		Key       asn1.BitString
	}
	if _, err := asn1.Unmarshal(der, &spki); err != nil {
		return nil, err
	}
	id := sha1.Sum(spki.Key.Bytes)
	return id[:], nil
}
