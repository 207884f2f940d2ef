// Package pemkey reads software private keys.
package pemkey

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"

	"maclef/internal/chip"
)

// ErrWrongPassword: the password does not decrypt the private key. No TPM is involved, and
// nothing counts the tries.
var ErrWrongPassword = errors.New("wrong password for the private key; nothing counts the tries, so try again")

// Parse reads a private key, an *rsa.PrivateKey or an *ecdsa.PrivateKey, from PEM or DER:
// PKCS#1 (RFC 8017, appendix A.1.2), SEC 1 (RFC 5915), PKCS#8 (RFC 5208), PKCS#8 encrypted
// by PBES2 (RFC 8018, section 6.2) with PBKDF2 or scrypt, or encrypted PEM (RFC 1421). It
// calls password only for an encrypted key, and clears the slice that password returns.
//
// Errors: ErrWrongPassword; chip.ErrSecretNeeded if the key is encrypted and password is
// nil; chip.ErrNotSupported for an algorithm or a curve that TPM keys do not have here.
func Parse(data []byte, password func() ([]byte, error)) (crypto.PrivateKey, error) {
	key, err := parse(data, password)
	if err != nil {
		return nil, fmt.Errorf("read private key: %w", err)
	}
	return key, nil
}

func parse(data []byte, password func() ([]byte, error)) (crypto.PrivateKey, error) {
	if password == nil {
		password = func() ([]byte, error) {
			return nil, fmt.Errorf("%w: the private key is encrypted", chip.ErrSecretNeeded)
		}
	}
	if len(bytes.TrimSpace(data)) == 0 {
		return nil, errors.New("the file is empty")
	}
	if len(data) > maxPrivateKeyFile {
		return nil, fmt.Errorf("over %d bytes: too large for a private key", maxPrivateKeyFile)
	}
	other := ""
	for rest := data; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		switch block.Type {
		case "RSA PRIVATE KEY", "EC PRIVATE KEY", "PRIVATE KEY", "ENCRYPTED PRIVATE KEY":
			return parsePrivatePEM(block, password)
		case "TSS KEY BLOB", "TSS2 PRIVATE KEY", "TSS2 KEY BLOB":
			return nil, errors.New("this is a TPM key file already; it needs no wrapping")
		case "DSA PRIVATE KEY":
			return nil, errNeitherRSANorEC
		case "OPENSSH PRIVATE KEY":
			return nil, fmt.Errorf("%w: an OpenSSH private key; if it is RSA or ECDSA, convert a copy with ssh-keygen -p -m PEM -f COPY", chip.ErrNotSupported)
		case "CERTIFICATE", "CERTIFICATE REQUEST", "PUBLIC KEY":
			other = block.Type
		}
	}
	if other != "" {
		return nil, fmt.Errorf("this is a %s, not a private key", strings.ToLower(other))
	}
	if bytes.Contains(data, []byte("-----BEGIN ")) {
		return nil, errors.New("no complete private key (PEM) in the file")
	}
	if isEncryptedPKCS8(data) {
		return decryptPKCS8(data, password)
	}
	return parsePrivateDER(data)
}

// maxPrivateKeyFile is the maximum size of a key, in bytes. The time to read an RSA key
// grows faster than its size.
const maxPrivateKeyFile = 64 << 10

var (
	errNeitherRSANorEC = fmt.Errorf("%w: TPMs take RSA and ECDSA keys, and this one is of another algorithm", chip.ErrNotWrappable)
	errOtherCurve      = fmt.Errorf("%w: the key is on a curve other than P-256, P-384 and P-521", chip.ErrNotWrappable)
	errNoPrivateKey    = errors.New("not an RSA or ECDSA private key (PKCS#1, SEC 1 or PKCS#8, PEM or DER), or damaged")
)

func parsePrivatePEM(block *pem.Block, password func() ([]byte, error)) (crypto.PrivateKey, error) {
	switch {
	case block.Type == "ENCRYPTED PRIVATE KEY":
		return decryptPKCS8(block.Bytes, password)
	case block.Headers["DEK-Info"] != "":
		return decryptOldPEM(block, password)
	}
	return parsePrivateDER(block.Bytes)
}

// decryptOldPEM decrypts encrypted PEM (RFC 1421). A wrong password often decrypts to valid
// padding, but not to a key.
func decryptOldPEM(block *pem.Block, password func() ([]byte, error)) (crypto.PrivateKey, error) {
	pass, err := password()
	if err != nil {
		return nil, err
	}
	defer clear(pass)
	//lint:ignore SA1019 such files exist, and users have to read them to convert them
	der, err := x509.DecryptPEMBlock(block, pass)
	if errors.Is(err, x509.IncorrectPasswordError) {
		return nil, ErrWrongPassword
	}
	if err != nil {
		return nil, err
	}
	defer clear(der)
	key, err := parsePrivateDER(der)
	if err != nil && !errors.Is(err, chip.ErrNotSupported) {
		return nil, ErrWrongPassword
	}
	return key, err
}

// parsePrivateDER reads PKCS#1, SEC 1 or PKCS#8 that is not encrypted.
func parsePrivateDER(der []byte) (crypto.PrivateKey, error) {
	if key, err := x509.ParsePKCS1PrivateKey(der); err == nil {
		return key, nil
	}
	if key, err := x509.ParseECPrivateKey(der); err == nil {
		return checkCurve(key)
	}
	key, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return nil, explainDER(der)
	}
	switch key := key.(type) {
	case *rsa.PrivateKey:
		return key, nil
	case *ecdsa.PrivateKey:
		return checkCurve(key)
	}
	return nil, errNeitherRSANorEC
}

// explainDER says why Go cannot read a key from der: because of its curve, of its
// algorithm, or because it is not a key.
func explainDER(der []byte) error {
	var seq, inner cryptobyte.String
	var version int
	var oid asn1.ObjectIdentifier
	s := cryptobyte.String(der)
	if !s.ReadASN1(&seq, cbasn1.SEQUENCE) || !s.Empty() || !seq.ReadASN1Integer(&version) {
		return errNoPrivateKey
	}
	switch {
	case version == 1 && seq.SkipASN1(cbasn1.OCTET_STRING) && // SEC 1, with the curve after the key
		seq.ReadASN1(&inner, cbasn1.Tag(0).ContextSpecific().Constructed()) && inner.ReadASN1ObjectIdentifier(&oid):
		return explainCurve(oid)
	case version > 1 || !seq.ReadASN1(&inner, cbasn1.SEQUENCE) || !inner.ReadASN1ObjectIdentifier(&oid) || !seq.PeekASN1Tag(cbasn1.OCTET_STRING):
		return errNoPrivateKey
	case oid.Equal(oidECPublicKey) && inner.ReadASN1ObjectIdentifier(&oid):
		return explainCurve(oid)
	case oid.Equal(oidRSA), oid.Equal(oidECPublicKey):
		return errNoPrivateKey
	}
	return errNeitherRSANorEC
}

// explainCurve says why Go cannot read a key on this curve.
func explainCurve(curve asn1.ObjectIdentifier) error {
	if curve.Equal(oidP256) || curve.Equal(oidP384) || curve.Equal(oidP521) {
		return errNoPrivateKey
	}
	return errOtherCurve
}

// Object identifiers: RFC 8017, appendix A.1; RFC 5480, section 2.1.
var (
	oidRSA         = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 1}
	oidECPublicKey = asn1.ObjectIdentifier{1, 2, 840, 10045, 2, 1}
	oidP256        = asn1.ObjectIdentifier{1, 2, 840, 10045, 3, 1, 7}
	oidP384        = asn1.ObjectIdentifier{1, 3, 132, 0, 34}
	oidP521        = asn1.ObjectIdentifier{1, 3, 132, 0, 35}
)

func checkCurve(key *ecdsa.PrivateKey) (crypto.PrivateKey, error) {
	switch key.Curve {
	case elliptic.P256(), elliptic.P384(), elliptic.P521():
		return key, nil
	}
	return nil, errOtherCurve
}

// decryptPKCS8 reads a key that is encrypted by PBES2.
func decryptPKCS8(der []byte, password func() ([]byte, error)) (crypto.PrivateKey, error) {
	e, err := parsePBES2(der)
	if err != nil {
		return nil, err
	}
	pass, err := password()
	if err != nil {
		return nil, err
	}
	defer clear(pass)
	plain, err := e.decrypt(pass)
	if err != nil {
		return nil, err
	}
	defer clear(plain)
	key, err := parsePrivateDER(plain)
	if err != nil && !errors.Is(err, chip.ErrNotSupported) {
		return nil, ErrWrongPassword // the padding was valid by chance
	}
	return key, err
}
