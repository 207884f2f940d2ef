package pemkey

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/des"
	"crypto/pbkdf2"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/asn1"
	"fmt"
	"hash"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
	"golang.org/x/crypto/scrypt"

	"maclef/internal/chip"
)

// A pbes2 is an EncryptedPrivateKeyInfo (RFC 5208, section 6) with PBES2 encryption (RFC
// 8018, section 6.2). Its parameters come from the file and have been checked, above all
// the cost of trying a password.
type pbes2 struct {
	derive     func(password []byte, size int) ([]byte, error)
	newCipher  func(key []byte) (cipher.Block, error)
	keySize    int // bytes
	iv         []byte
	ciphertext []byte
}

// Maximum cost of trying a password, far more than programs use.
const (
	maxPBKDF2Rounds = 5_000_000
	maxScryptMemory = 512 << 20 // bytes
	maxScryptWork   = 1 << 25   // N*r*p; 2^23 takes a few seconds
)

var (
	oidPBES2  = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 5, 13}
	oidPBKDF2 = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 5, 12}
	oidScrypt = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 11591, 4, 11}
)

// blockCiphers are the encryption schemes in CBC mode: RFC 8018, section B.2, and NIST's
// object identifiers for AES.
var blockCiphers = map[string]struct {
	new     func([]byte) (cipher.Block, error)
	keySize int
}{
	"1.2.840.113549.3.7":      {des.NewTripleDESCipher, 24},
	"2.16.840.1.101.3.4.1.2":  {aes.NewCipher, 16},
	"2.16.840.1.101.3.4.1.22": {aes.NewCipher, 24},
	"2.16.840.1.101.3.4.1.42": {aes.NewCipher, 32},
}

// hmacHashes are the pseudorandom functions of PBKDF2: RFC 8018, section B.1.
var hmacHashes = map[string]func() hash.Hash{
	"1.2.840.113549.2.7":  sha1.New,
	"1.2.840.113549.2.8":  sha256.New224,
	"1.2.840.113549.2.9":  sha256.New,
	"1.2.840.113549.2.10": sha512.New384,
	"1.2.840.113549.2.11": sha512.New,
}

// readPBES2 splits an EncryptedPrivateKeyInfo. ok is false for anything else.
func readPBES2(der []byte) (kdf, enc, ciphertext cryptobyte.String, ok bool) {
	var (
		info, alg, params cryptobyte.String
		oid               asn1.ObjectIdentifier
	)
	s := cryptobyte.String(der)
	ok = s.ReadASN1(&info, cbasn1.SEQUENCE) && info.ReadASN1(&alg, cbasn1.SEQUENCE) &&
		alg.ReadASN1ObjectIdentifier(&oid) && oid.Equal(oidPBES2) && alg.ReadASN1(&params, cbasn1.SEQUENCE) &&
		params.ReadASN1(&kdf, cbasn1.SEQUENCE) && params.ReadASN1(&enc, cbasn1.SEQUENCE) &&
		info.ReadASN1(&ciphertext, cbasn1.OCTET_STRING)
	return kdf, enc, ciphertext, ok
}

func isEncryptedPKCS8(der []byte) bool {
	_, _, _, ok := readPBES2(der)
	return ok
}

func parsePBES2(der []byte) (*pbes2, error) {
	kdf, enc, ciphertext, ok := readPBES2(der)
	if !ok {
		return nil, unsupported("it is not encrypted by PBES2, or damaged")
	}
	e := &pbes2{ciphertext: ciphertext}
	if err := e.readCipher(enc); err != nil {
		return nil, err
	}
	return e, e.readKDF(kdf)
}

func (e *pbes2) readCipher(enc cryptobyte.String) error {
	var (
		oid asn1.ObjectIdentifier
		iv  cryptobyte.String
	)
	if !enc.ReadASN1ObjectIdentifier(&oid) {
		return unsupported("its encryption scheme is damaged")
	}
	c, ok := blockCiphers[oid.String()]
	if !ok {
		return unsupported("its encryption scheme is %v", oid)
	}
	e.newCipher, e.keySize = c.new, c.keySize
	block, err := c.new(make([]byte, c.keySize))
	if err != nil {
		return err
	}
	if !enc.ReadASN1(&iv, cbasn1.OCTET_STRING) || len(iv) != block.BlockSize() ||
		len(e.ciphertext) == 0 || len(e.ciphertext)%block.BlockSize() != 0 {
		return unsupported("it is damaged")
	}
	e.iv = iv
	return nil
}

func (e *pbes2) readKDF(kdf cryptobyte.String) error {
	var (
		oid          asn1.ObjectIdentifier
		params, salt cryptobyte.String
	)
	if !kdf.ReadASN1ObjectIdentifier(&oid) || !kdf.ReadASN1(&params, cbasn1.SEQUENCE) ||
		!params.ReadASN1(&salt, cbasn1.OCTET_STRING) {
		return unsupported("its key derivation function is damaged")
	}
	switch {
	case oid.Equal(oidPBKDF2):
		return e.readPBKDF2(salt, params)
	case oid.Equal(oidScrypt):
		return e.readScrypt(salt, params)
	}
	return unsupported("its key derivation function is %v", oid)
}

// readPBKDF2 reads what follows the salt: RFC 8018, section A.2.
func (e *pbes2) readPBKDF2(salt, params cryptobyte.String) error {
	var rounds, size int
	newHash := sha1.New // the default
	if !params.ReadASN1Integer(&rounds) || rounds < 1 || rounds > maxPBKDF2Rounds {
		return unsupported("its PBKDF2 has over %d rounds, or is damaged", maxPBKDF2Rounds)
	}
	if params.PeekASN1Tag(cbasn1.INTEGER) && (!params.ReadASN1Integer(&size) || size != e.keySize) {
		return unsupported("its PBKDF2 and its cipher have keys of different sizes")
	}
	if !params.Empty() {
		var (
			prf cryptobyte.String
			oid asn1.ObjectIdentifier
		)
		if !params.ReadASN1(&prf, cbasn1.SEQUENCE) || !prf.ReadASN1ObjectIdentifier(&oid) {
			return unsupported("its PBKDF2 is damaged")
		}
		if newHash = hmacHashes[oid.String()]; newHash == nil {
			return unsupported("its PBKDF2 uses %v", oid)
		}
	}
	e.derive = func(password []byte, size int) ([]byte, error) {
		return pbkdf2.Key(newHash, string(password), salt, rounds, size)
	}
	return nil
}

// readScrypt reads what follows the salt: RFC 7914, section 7.
func (e *pbes2) readScrypt(salt, params cryptobyte.String) error {
	var n, r, p int64
	const most = maxScryptWork // so the products below do not overflow
	if !params.ReadASN1Integer(&n) || !params.ReadASN1Integer(&r) || !params.ReadASN1Integer(&p) ||
		n < 2 || n&(n-1) != 0 || r < 1 || p < 1 || n > most || r > most/n || p > most/n/r || 128*r*(n+p) > maxScryptMemory {
		return unsupported("its scrypt needs over %d MiB or a long time, or is damaged", maxScryptMemory>>20)
	}
	e.derive = func(password []byte, size int) ([]byte, error) {
		return scrypt.Key(password, salt, int(n), int(r), int(p), size)
	}
	return nil
}

// decrypt returns the PrivateKeyInfo, or ErrWrongPassword.
func (e *pbes2) decrypt(password []byte) ([]byte, error) {
	key, err := e.derive(password, e.keySize)
	if err != nil {
		return nil, err
	}
	defer clear(key)
	block, err := e.newCipher(key)
	if err != nil {
		return nil, err
	}
	plain := make([]byte, len(e.ciphertext))
	cipher.NewCBCDecrypter(block, e.iv).CryptBlocks(plain, e.ciphertext)
	// The padding is n bytes of value n: RFC 8018, section 6.1.1.
	n := int(plain[len(plain)-1])
	if n < 1 || n > block.BlockSize() {
		return nil, ErrWrongPassword
	}
	for _, b := range plain[len(plain)-n:] {
		if int(b) != n {
			return nil, ErrWrongPassword
		}
	}
	return plain[:len(plain)-n], nil
}

// unsupported returns an error for an encrypted private key, with the command that converts
// it.
func unsupported(format string, args ...any) error {
	return fmt.Errorf("%w: the encrypted private key: %s; convert it with openssl pkcs8 -topk8 -v2 aes256",
		chip.ErrNotSupported, fmt.Sprintf(format, args...))
}
