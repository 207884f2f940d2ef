package tpmkey

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"fmt"
	"slices"

	"maclef/internal/certfile"
)

// parseChain returns the chain in a certificate file in the order of TLS: the certificate of the key
// own, then the issuer of each, then the others. RFC 8446, section 4.4.2.
func parseChain(file []byte, own crypto.PublicKey) (chain [][]byte, leaf *x509.Certificate, err error) {
	certs, err := certfile.Parse(file)
	if err != nil {
		return nil, nil, err
	}
	i := slices.IndexFunc(certs, func(c *x509.Certificate) bool { return certfile.SameKey(c.PublicKey, own) })
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
