package tpmkey

import (
	"bytes"
	"crypto/rsa"
	"crypto/x509"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"

	"github.com/youmark/pkcs8"
	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
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

// decryptPKCS8 decrypts a key encrypted by PBES2. The file chooses the cost of
// trying a password, so that is bounded first.
func decryptPKCS8(der []byte, password func() ([]byte, error)) (key *rsa.PrivateKey, err error) {
	if err := checkKDFCost(der); err != nil {
		return nil, err
	}
	pass, err := password()
	if err != nil {
		return nil, err
	}
	defer clear(pass)
	// The cipher packages panic on an initialization vector or a length that
	// does not fit, and pkcs8 hands them what the file says.
	defer func() {
		if recover() != nil {
			key, err = nil, errors.New("the encrypted private key is damaged")
		}
	}()
	any, _, err := pkcs8.ParsePrivateKey(der, pass)
	if err != nil {
		if err.Error() == "pkcs8: incorrect password" {
			return nil, ErrWrongPassword
		}
		return nil, err
	}
	key, ok := any.(*rsa.PrivateKey)
	if !ok {
		return nil, errNotRSA
	}
	return key, nil
}

// What a password may cost: far above what programs write.
const (
	maxPBKDF2Rounds  = 10_000_000
	maxScryptMemory  = 512 << 20 // bytes
	maxScryptThreads = 64
)

var (
	oidPBES2  = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 5, 13}
	oidPBKDF2 = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 5, 12}
	oidScrypt = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 11591, 4, 11}
)

// readKDF returns the key derivation function of an EncryptedPrivateKeyInfo and
// its parameters after the salt.
func readKDF(der []byte) (kdf asn1.ObjectIdentifier, params cryptobyte.String, ok bool) {
	var (
		info, alg, pbes2, fn cryptobyte.String
		oid                  asn1.ObjectIdentifier
	)
	s := cryptobyte.String(der)
	ok = s.ReadASN1(&info, cbasn1.SEQUENCE) && info.ReadASN1(&alg, cbasn1.SEQUENCE) &&
		alg.ReadASN1ObjectIdentifier(&oid) && oid.Equal(oidPBES2) &&
		alg.ReadASN1(&pbes2, cbasn1.SEQUENCE) && pbes2.ReadASN1(&fn, cbasn1.SEQUENCE) &&
		fn.ReadASN1ObjectIdentifier(&kdf) && fn.ReadASN1(&params, cbasn1.SEQUENCE) &&
		params.SkipASN1(cbasn1.OCTET_STRING)
	return kdf, params, ok
}

func isEncryptedPKCS8(der []byte) bool {
	_, _, ok := readKDF(der)
	return ok
}

func checkKDFCost(der []byte) error {
	kdf, params, ok := readKDF(der)
	if !ok {
		return fmt.Errorf("%w: the private key is encrypted in a way other than PBES2; convert it with openssl pkcs8 -topk8 -v2 aes256", ErrNotSupported)
	}
	switch {
	case kdf.Equal(oidPBKDF2):
		var rounds int
		if !params.ReadASN1Integer(&rounds) || rounds < 1 || rounds > maxPBKDF2Rounds {
			return fmt.Errorf("%w: the private key's PBKDF2 needs over %d rounds, or is damaged", ErrNotSupported, maxPBKDF2Rounds)
		}
	case kdf.Equal(oidScrypt):
		var n, r, p int
		if !params.ReadASN1Integer(&n) || !params.ReadASN1Integer(&r) || !params.ReadASN1Integer(&p) ||
			n < 2 || r < 1 || p < 1 || p > maxScryptThreads || r > maxScryptMemory/128 || n > maxScryptMemory/128/r {
			return fmt.Errorf("%w: the private key's scrypt needs over %d MiB, or is damaged", ErrNotSupported, maxScryptMemory>>20)
		}
	default:
		return fmt.Errorf("%w: the private key's key derivation function %v", ErrNotSupported, kdf)
	}
	return nil
}
