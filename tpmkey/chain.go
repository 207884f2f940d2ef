package tpmkey

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strings"

	"maclef/blob"
	"maclef/internal/textenc"
)

// parseChain returns the chain in a certificate file in the order of TLS: the certificate of the key
// own, then the issuer of each, then the others. RFC 8446, section 4.4.2.
func parseChain(file []byte, own crypto.PublicKey) (chain [][]byte, leaf *x509.Certificate, err error) {
	certs, err := parseCertificates(file)
	if err != nil {
		return nil, nil, err
	}
	key, ok := own.(interface{ Equal(crypto.PublicKey) bool })
	i := slices.IndexFunc(certs, func(c *x509.Certificate) bool { return ok && key.Equal(c.PublicKey) })
	if i < 0 {
		return nil, nil, fmt.Errorf("%w; its subject is %q", ErrWrongCertificate, certs[0].Subject)
	}
	leaf = certs[i]
	for i >= 0 {
		last := certs[i]
		chain, certs = append(chain, last.Raw), slices.Delete(certs, i, i+1)
		i = slices.IndexFunc(certs, func(c *x509.Certificate) bool { return isIssuer(c, last) })
	}
	for _, c := range certs {
		chain = append(chain, c.Raw)
	}
	return chain, leaf, nil
}

// isIssuer reports whether the certificate ca is that of the issuer of another, by their names and
// key identifiers. RFC 5280, section 4.2.1.1.
func isIssuer(ca, of *x509.Certificate) bool {
	sameKey := len(ca.SubjectKeyId) == 0 || len(of.AuthorityKeyId) == 0 || bytes.Equal(ca.SubjectKeyId, of.AuthorityKeyId)
	return bytes.Equal(ca.RawSubject, of.RawIssuer) && sameKey
}

// parseCertificates returns the certificates in a file, PEM or DER, at least one. Other PEM blocks,
// such as the key's, are ignored.
func parseCertificates(file []byte) (certs []*x509.Certificate, err error) {
	file, copied := textenc.UTF8(file)
	if copied {
		defer clear(file) // there may be a software key in it
	}
	other := ""
	for rest := file; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" && block.Type != "X509 CERTIFICATE" {
			other = block.Type
			continue
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, err
		}
		certs = append(certs, cert)
	}
	if certs == nil {
		certs, err = x509.ParseCertificates(file)
	}
	if err != nil || len(certs) == 0 {
		return nil, noCertificate(file, other)
	}
	return certs, nil
}

// noCertificate says what a file is that has no certificate, and how to convert it. other is the type
// of a PEM block in it, or empty.
func noCertificate(file []byte, other string) error {
	_, err := blob.Parse(file)
	var known *blob.NotKeyError
	switch errors.As(err, &known); {
	case other == "TRUSTED CERTIFICATE":
		return errors.New("a certificate in a form of its own (TRUSTED CERTIFICATE); convert it with openssl x509 -in FILE -out COPY")
	case other == "PKCS7", other == "CMS":
		return errors.New("a PKCS #7 file; take the certificates out with openssl pkcs7 -print_certs -in FILE -out COPY")
	case bytes.Contains(file[:min(len(file), 32)], oidSignedData):
		return errors.New("a PKCS #7 file; take the certificates out with openssl pkcs7 -inform DER -print_certs -in FILE -out COPY")
	case err == nil, strings.HasPrefix(other, "TSS"):
		return errors.New("a key file of a TPM, without a certificate")
	case known == nil || known.What == "":
		return errors.New("no certificate (PEM or DER) in it")
	case known.What == "a certificate":
		return errors.New("a damaged or truncated certificate; get a good copy of the file")
	case strings.Contains(known.What, "PKCS #12"):
		return errors.New("a PKCS #12 file; take the certificates out with openssl pkcs12 -nokeys -in FILE -out COPY")
	}
	return fmt.Errorf("%s, not a certificate", known.What)
}

// oidSignedData is 1.2.840.113549.1.7.2 in DER. RFC 5652, section 5.1.
var oidSignedData = []byte{0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x02}
