package tpmkey

import (
	"bytes"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
)

// ErrWrongPassword: an encrypted private key does not open with this password.
// No TPM is involved, and nothing counts the tries.
var ErrWrongPassword = errors.New("wrong password for the private key; nothing counts the tries, so try again")

// ParsePrivateKey reads an RSA private key to Wrap, from PEM or DER: PKCS#1 (RFC
// 8017, appendix A.1.2), PKCS#8 (RFC 5208), PKCS#8 encrypted by PBES2 (RFC 8018,
// section 6.2) with PBKDF2 or scrypt, or PEM encrypted in the old way (RFC
// 1421). password is called only for an encrypted key; the slice that it returns
// is cleared.
//
// Errors: ErrWrongPassword; ErrSecretNeeded where password is nil.
func ParsePrivateKey(data []byte, password func() ([]byte, error)) (*rsa.PrivateKey, error) {
	key, err := parsePrivateKey(data, password)
	if err != nil {
		return nil, fmt.Errorf("read private key: %w", err)
	}
	return key, nil
}

func parsePrivateKey(data []byte, password func() ([]byte, error)) (*rsa.PrivateKey, error) {
	if password == nil {
		password = func() ([]byte, error) { return nil, fmt.Errorf("%w: the private key is encrypted", ErrSecretNeeded) }
	}
	if len(bytes.TrimSpace(data)) == 0 {
		return nil, errors.New("the file is empty")
	}
	if len(data) > maxPrivateKeyFile {
		return nil, fmt.Errorf("over %d bytes: too large for an RSA private key", maxPrivateKeyFile)
	}
	other := ""
	for rest := data; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		switch block.Type {
		case "RSA PRIVATE KEY", "PRIVATE KEY", "ENCRYPTED PRIVATE KEY":
			return parsePrivatePEM(block, password)
		case "TSS KEY BLOB":
			return nil, errors.New("this is a TPM key file already; it needs no wrapping")
		case "EC PRIVATE KEY":
			return nil, errNotRSA
		case "OPENSSH PRIVATE KEY":
			return nil, fmt.Errorf("%w: an OpenSSH private key; if it is RSA, convert a copy with ssh-keygen -p -m PEM -f COPY", ErrNotSupported)
		case "CERTIFICATE", "CERTIFICATE REQUEST", "PUBLIC KEY":
			other = block.Type
		}
	}
	if other != "" {
		return nil, fmt.Errorf("this is a %s, not a private key", strings.ToLower(other))
	}
	if bytes.Contains(data, []byte("-----BEGIN ")) {
		return nil, errors.New("no complete private key (PEM) in it")
	}
	if isEncryptedPKCS8(data) {
		return decryptPKCS8(data, password)
	}
	return parsePrivateDER(data)
}

// maxPrivateKeyFile is more than any key has that a TPM takes, in bytes; reading
// an RSA key takes longer than its size.
const maxPrivateKeyFile = 64 << 10

// errNotRSA is a key of another algorithm.
var errNotRSA = fmt.Errorf("%w: a TPM 1.2 has RSA only, and this key is of another algorithm; make a new key with keygen", ErrNotSupported)

func parsePrivatePEM(block *pem.Block, password func() ([]byte, error)) (*rsa.PrivateKey, error) {
	switch {
	case block.Type == "ENCRYPTED PRIVATE KEY":
		return decryptPKCS8(block.Bytes, password)
	case block.Headers["DEK-Info"] != "":
		return decryptOldPEM(block, password)
	}
	return parsePrivateDER(block.Bytes)
}

// decryptOldPEM decrypts with what RFC 1421 has. Its padding often hides that
// the password was wrong; then what comes out is no key.
func decryptOldPEM(block *pem.Block, password func() ([]byte, error)) (*rsa.PrivateKey, error) {
	pass, err := password()
	if err != nil {
		return nil, err
	}
	defer clear(pass)
	//lint:ignore SA1019 such files exist, and reading one is how to get rid of it
	der, err := x509.DecryptPEMBlock(block, pass)
	if errors.Is(err, x509.IncorrectPasswordError) {
		return nil, ErrWrongPassword
	}
	if err != nil {
		return nil, err
	}
	defer clear(der)
	key, err := parsePrivateDER(der)
	if err != nil {
		return nil, ErrWrongPassword
	}
	return key, nil
}

// parsePrivateDER reads PKCS#1 or PKCS#8 that is not encrypted.
func parsePrivateDER(der []byte) (*rsa.PrivateKey, error) {
	if key, err := x509.ParsePKCS1PrivateKey(der); err == nil {
		return key, nil
	}
	any, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return nil, errors.New("this is no RSA private key (PKCS#1 or PKCS#8, PEM or DER), or a damaged one")
	}
	key, ok := any.(*rsa.PrivateKey)
	if !ok {
		return nil, errNotRSA
	}
	return key, nil
}

// decryptPKCS8 reads a key that is encrypted by PBES2.
func decryptPKCS8(der []byte, password func() ([]byte, error)) (*rsa.PrivateKey, error) {
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
	if err != nil && !errors.Is(err, ErrNotSupported) {
		return nil, ErrWrongPassword // its padding was right by chance
	}
	return key, err
}
