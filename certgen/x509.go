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

	"maclef/blob"
	"maclef/internal/cli"
)

// clockSkew is how far NotBefore lies in the past, because clocks differ.
const clockSkew = 5 * time.Minute

// A product is the content of the output file.
type product struct {
	pemType string
	der     []byte
	what    string // description for messages
}

// A job signs what certgen makes. Everything that needs no key has been done.
type job func(key crypto.Signer) (*product, error)

// prepare does what needs no TPM.
func prepare(env *cli.Env, o *options, file blob.Key, alg *algorithm, now time.Time) (job, error) {
	switch {
	case *o.csr:
		return request(o, alg)
	case o.issues():
		return issue(env, o, file, alg, now)
	case *o.crl:
		return revocationList(env, o, file, alg, now)
	}
	return selfSigned(o, file, alg, now)
}

// template returns what self-signed and issued certificates have in common.
func (o *options) template(public crypto.PublicKey, begin, end time.Time) (*x509.Certificate, error) {
	id, err := keyID(public)
	return &x509.Certificate{
		RawSubject:            o.subject.marshal(),
		NotBefore:             begin,
		NotAfter:              end,
		DNSNames:              o.names.names,
		IPAddresses:           o.names.netIPs(),
		EmailAddresses:        o.names.emails,
		URIs:                  o.names.uris,
		SubjectKeyId:          id,
		BasicConstraintsValid: true,
	}, err
}

// selfSigned makes a self-signed certificate. crypto/x509 chooses a serial number of 159 random
// bits.
func selfSigned(o *options, file blob.Key, alg *algorithm, now time.Time) (job, error) {
	begin := now.UTC().Truncate(time.Second).Add(-clockSkew)
	template, err := o.template(file.PublicKey(), begin, begin.Add(time.Duration(*o.days)*24*time.Hour))
	if err != nil {
		return nil, err
	}
	template.SignatureAlgorithm = alg.x509
	kind := "certificate"
	if *o.ca {
		kind = "CA certificate"
		template.IsCA = true
		template.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageCRLSign
	} else {
		template.KeyUsage = o.usage.keyUsage(abilityOf(file))
	}
	if len(o.permit.order) > 0 {
		constrain(template, o.permit)
		kind += " for " + strings.Join(o.permit.order, ", ") + " alone,"
	}
	if !*o.ca || o.usageGiven || len(o.permit.order) > 0 {
		template.ExtKeyUsage = *o.usage
	}
	return func(key crypto.Signer) (*product, error) {
		der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
		if err != nil {
			return nil, err
		}
		return &product{"CERTIFICATE", der, describe(kind, o, template, der)}, nil
	}, nil
}

// request makes a certificate request (PKCS #10, RFC 2986). It asks for uses only if -usage is given.
func request(o *options, alg *algorithm) (job, error) {
	template := &x509.CertificateRequest{
		RawSubject:         o.subject.marshal(),
		DNSNames:           o.names.names,
		IPAddresses:        o.names.netIPs(),
		EmailAddresses:     o.names.emails,
		URIs:               o.names.uris,
		SignatureAlgorithm: alg.x509,
	}
	if o.usageGiven {
		ext, err := o.usage.extension()
		if err != nil {
			return nil, err
		}
		template.ExtraExtensions = []pkix.Extension{ext}
	}
	return func(key crypto.Signer) (*product, error) {
		der, err := x509.CreateCertificateRequest(rand.Reader, template, key)
		if err != nil {
			return nil, err
		}
		return &product{"CERTIFICATE REQUEST", der, "certificate request " + o.ofSubject() + " " + o.forNames()}, nil
	}, nil
}

// describe describes a certificate, with the fingerprint that browsers show.
func describe(kind string, o *options, template *x509.Certificate, der []byte) string {
	hex := fmt.Sprintf("% X", sha256.Sum256(der))
	return fmt.Sprintf("%s %s, valid from %s to %s, SHA-256 fingerprint %s", kind, o.ofSubject(),
		template.NotBefore.Format(time.DateOnly), template.NotAfter.Format(time.DateOnly), strings.ReplaceAll(hex, " ", ":"))
}

// describeIssued is describe for a certificate of somebody else, with what revoking it needs. Clients
// that trust only a CA above this one need the certificates between.
func describeIssued(o *options, ca, template *x509.Certificate, der []byte) string {
	kind := fmt.Sprintf("certificate %s, for the use %s, serial number %x,", o.forNames(), o.usage, template.SerialNumber.Bytes())
	text := describe(kind, o, template, der)
	if !sameName(ca.RawSubject, ca.RawIssuer) {
		text += fmt.Sprintf("; append the CA's certificate (%s) to it for servers and clients, because this CA is not self-signed", nameOf(*o.caCert, "standard input"))
	}
	return text
}

// ofSubject is the subject for messages.
func (o *options) ofSubject() string {
	if len(o.subject.rdns) == 0 {
		return "without a subject"
	}
	return "of " + o.subject.String()
}

// forNames is the alternative names for messages.
func (o *options) forNames() string {
	if len(o.names.order) == 0 {
		return "without alternative names"
	}
	return "for " + strings.Join(o.names.order, ", ")
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
