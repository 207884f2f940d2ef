// Package certfile reads files with certificates and with requests for them, as people have them: PEM
// or DER, in UTF-8 or UTF-16, with other PEM blocks in them.
package certfile

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

// Parse returns the certificates in a file, at least one. Other PEM blocks, such as the key's, are
// ignored. If there is no certificate, the error says what the file is, and how to convert it.
func Parse(file []byte) ([]*x509.Certificate, error) {
	blocks, other := Blocks(file, "CERTIFICATE", "X509 CERTIFICATE")
	der := file
	if blocks != nil {
		der = slices.Concat(blocks...)
	}
	certs, err := x509.ParseCertificates(der)
	switch {
	case len(certs) > 0:
		return certs, nil
	case err != nil && blocks != nil:
		return nil, err
	}
	return nil, noCertificate(file, other)
}

// Blocks returns the contents of the PEM blocks of these types, in DER. other is the type of another
// block in the file, or empty.
func Blocks(file []byte, types ...string) (blocks [][]byte, other string) {
	text, copied := textenc.UTF8(file)
	if copied {
		defer clear(text) // there may be a software key in it
	}
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		if slices.Contains(types, block.Type) {
			blocks = append(blocks, block.Bytes)
			continue
		}
		other = block.Type
		clear(block.Bytes)
	}
	return blocks, other
}

// SameKey reports whether two public keys are the same.
func SameKey(a, b crypto.PublicKey) bool {
	key, ok := a.(interface{ Equal(crypto.PublicKey) bool })
	return ok && key.Equal(b)
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
