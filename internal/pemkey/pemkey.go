// Package pemkey reads software private keys.
package pemkey

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"

	"maclef/internal/chip"
	"maclef/internal/textenc"
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
	data, copied := textenc.UTF8(data)
	if copied {
		defer clear(data)
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
		case "RSA-PSS PRIVATE KEY": // what openssl rsa -traditional writes
			return nil, errPSSOnly
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
	errPSSOnly         = fmt.Errorf("%w: its file limits this RSA key to PSS signatures (id-RSASSA-PSS), and a wrapped key would not be limited; "+
		"if that is what you want, wrap what openssl rsa -traditional -outform DER -in KEY -out COPY makes of it", chip.ErrNotSupported)
	errExplicitCurve = fmt.Errorf("%w: the file describes the key's curve by numbers (explicit parameters) instead of its name; "+
		"wrap what openssl ec -param_enc named_curve -in KEY -out COPY makes of it", chip.ErrNotSupported)
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
