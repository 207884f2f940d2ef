package blob

import (
	"bytes"
	"crypto"
	"crypto/aes"
	"crypto/cipher"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"io"
)

// A TPMSealed is data that is sealed to a TPM 1.2: the PEM file "TSS" of tpm-tools' tpm_sealdata.
// The data is encrypted with AES-256-CBC, and TPM_Seal has encrypted the AES key.
//
//	-----BEGIN TSS-----
//	-----TSS KEY-----
//	TPM_KEY in base64
//	-----ENC KEY-----
//	Symmetric Key: AES-256-CBC
//	TPM_STORED_DATA or TPM_STORED_DATA12 in base64
//	-----ENC DAT-----
//	data in base64
//	-----END TSS-----
type TPMSealed struct {
	Key        *TPMKey // a storage key under the SRK
	AESKey     []byte  // TPM_STORED_DATA, sealed with Key
	Ciphertext []byte  // whole AES blocks

	// Secret says that the AES key has a secret of its own. Otherwise its secret is the password
	// "password", which tpm_sealdata gives to every file. Parse sets it if Key has authDataUsage
	// "never": tpm_sealdata makes no such file.
	Secret bool
}

// The lines between the parts of a file.
const (
	tssBegin = "-----BEGIN TSS-----"
	tssKey   = "-----TSS KEY-----"
	tssAES   = "-----ENC KEY-----"
	tssData  = "-----ENC DAT-----"
	tssEnd   = "-----END TSS-----"
)

// The line after tssAES.
const (
	tssKind   = "Symmetric Key"
	tssCipher = "AES-256-CBC"
)

// tssIV is the IV of every file. Each file has its own AES key.
var tssIV = []byte("IBM SEALIBM SEAL")

// MaxSealed12 is the most bytes of data that can be sealed to a TPM 1.2.
const MaxSealed12 = 8 << 20

const aesKeySize = 32

// tagStoredData12 is TPM_TAG_STORED_DATA12.
//
// TPM Main Part 2, section 3.1 (TPM_STRUCTURE_TAG)
const tagStoredData12 = 0x0016

// EncryptSealed encrypts data, and returns what is to be sealed with TPM_Seal: the AES key and the
// SHA-256 digest of the data. tpm_sealdata seals the AES key only, so that it does not notice a
// changed ciphertext; its tpm_unsealdata ignores the digest.
func EncryptSealed(random io.Reader, data []byte) (seal, ciphertext []byte, err error) {
	seal = make([]byte, aesKeySize, aesKeySize+sha256.Size)
	if _, err := io.ReadFull(random, seal); err != nil {
		return nil, nil, err
	}
	block, err := aes.NewCipher(seal)
	if err != nil {
		return nil, nil, err
	}
	padding := aes.BlockSize - len(data)%aes.BlockSize
	ciphertext = append(make([]byte, 0, len(data)+padding), data...)
	ciphertext = append(ciphertext, bytes.Repeat([]byte{byte(padding)}, padding)...)
	cipher.NewCBCEncrypter(block, tssIV).CryptBlocks(ciphertext, ciphertext)
	digest := sha256.Sum256(data)
	return append(seal, digest[:]...), ciphertext, nil
}

// Decrypt decrypts the data with what TPM_Unseal returned for AESKey. ok is false if that is no AES
// key, or if the ciphertext is not the one that was sealed. In a file of tpm_sealdata, a changed
// ciphertext is noticed only if the padding at its end is wrong.
func (s *TPMSealed) Decrypt(unsealed []byte) (data []byte, ok bool) {
	if len(unsealed) != aesKeySize && len(unsealed) != aesKeySize+sha256.Size {
		return nil, false
	}
	block, err := aes.NewCipher(unsealed[:aesKeySize])
	if err != nil {
		return nil, false
	}
	data = make([]byte, len(s.Ciphertext))
	cipher.NewCBCDecrypter(block, tssIV).CryptBlocks(data, s.Ciphertext)
	padding := int(data[len(data)-1])
	if ok = padding >= 1 && padding <= aes.BlockSize; ok {
		end := len(data) - padding
		ok = bytes.Count(data[end:], data[len(data)-1:]) == padding
		if digest := sha256.Sum256(data[:end]); len(unsealed) > aesKeySize && !bytes.Equal(digest[:], unsealed[aesKeySize:]) {
			ok = false
		}
		data = data[:end]
	}
	if !ok {
		clear(data)
		return nil, false
	}
	return data, true
}

// NewTPMSealed makes a sealed file from the storage key, the reply of TPM_Seal and the ciphertext
// of EncryptSealed. The error wraps [ErrDamaged].
//
// TPM Main Part 3, section 10.1 (TPM_Seal)
func NewTPMSealed(key *TPMKey, aesKey, ciphertext []byte) (*TPMSealed, error) {
	s := &TPMSealed{Key: key, AESKey: aesKey, Ciphertext: ciphertext, Secret: key.AuthDataUsage == AuthNever}
	return s, s.check()
}

// isTPMSealed reports whether a text has the first line of a sealed file.
func isTPMSealed(text []byte) bool {
	_, ok := cutLine(&text, tssBegin)
	return ok
}

// cutLine returns what is before the first line with this text, and sets b to what follows the line.
func cutLine(b *[]byte, line string) (before []byte, ok bool) {
	for from := 0; ; {
		i := bytes.Index((*b)[from:], []byte(line))
		if i < 0 {
			return nil, false
		}
		i += from
		from = i + len(line)
		after := bytes.TrimLeft((*b)[from:], " \t\r") // not up to the line end: the time stays linear
		if after, ended := bytes.CutPrefix(after, []byte("\n")); (i == 0 || (*b)[i-1] == '\n') && (ended || len(after) == 0) {
			before, *b = (*b)[:i], after
			return before, true
		}
	}
}

// parseTPMSealed parses the sealed file in a text.
func parseTPMSealed(text []byte) (Key, error) {
	var parts [5][]byte
	for i, line := range []string{tssBegin, tssKey, tssAES, tssData, tssEnd} {
		part, ok := cutLine(&text, line)
		if !ok {
			return nil, truncated("the line %s is missing", line)
		}
		parts[i] = part
	}
	if isTPMSealed(text) {
		return nil, damaged("two PEM blocks TSS in one file, and it is not clear which is meant")
	}
	kind, aesPart, _ := bytes.Cut(parts[3], []byte("\n"))
	if kind = trimLine(kind); !bytes.HasPrefix(kind, []byte(tssKind)) || !bytes.HasSuffix(kind, []byte(tssCipher)) {
		return nil, fmt.Errorf("%w form of the AES key: the line after %s is %q, and tpm_sealdata writes %q",
			ErrUnsupported, tssAES, kind[:min(len(kind), 40)], tssKind+": "+tssCipher)
	}
	s := new(TPMSealed)
	structure, err := decodePart(tssKey, parts[2])
	if err == nil {
		s.AESKey, err = decodePart(tssAES, aesPart)
	}
	if err == nil {
		s.Ciphertext, err = decodePart(tssData, parts[4])
	}
	if err == nil {
		s.Key, err = parseStructure(structure)
	}
	if err == nil {
		err = s.check()
	}
	if err != nil {
		return nil, err
	}
	s.Secret = s.Key.AuthDataUsage == AuthNever
	return s, nil
}

// decodePart decodes the base64 after a line.
func decodePart(line string, body []byte) ([]byte, error) {
	block := pemBlock{label: bytes.Trim([]byte(line), "-"), body: body}
	return block.decode()
}

// check implements [Key].
func (s *TPMSealed) check() error {
	switch {
	case s.Key == nil:
		return damaged("it has no storage key")
	case s.Key.Usage != KeyStorage:
		return damaged("its key is a %v key, and a TPM seals with a %v key", s.Key.Usage, KeyStorage)
	case len(s.Ciphertext) == 0:
		return truncated("there is no encrypted data after the line %s", tssData)
	case len(s.Ciphertext)%aes.BlockSize != 0:
		return truncated("the encrypted data has %d bytes, and AES has blocks of %d", len(s.Ciphertext), aes.BlockSize)
	}
	if err := s.Key.check(); err != nil {
		return err
	}
	_, err := s.pcrInfo()
	return err
}

// pcrInfo parses AESKey, and returns what it says about PCRs; nil if it is not bound to PCRs.
//
//	TPM_STORED_DATA                    TPM_STORED_DATA12
//	version   4 bytes 01010000         tag, et   2, 2 bytes 0016 0000
//	sealInfo  uint32 size, TPM_PCR_INFO or TPM_PCR_INFO_LONG
//	encData   uint32 size, TPM_SEALED_DATA encrypted
//
// TPM Main Part 2, sections 9.1 (TPM_STORED_DATA) and 9.2 (TPM_STORED_DATA12)
func (s *TPMSealed) pcrInfo() (*pcrInfo, error) {
	r := newReader(s.AESKey, ErrTruncated)
	start := r.Bytes("version of the sealed AES key", len(keyStart))
	long := len(start) == 4 && start[0] == 0 && start[1] == tagStoredData12
	if r.Err == nil && !long && !bytes.Equal(start, keyStart) {
		return nil, damaged("the sealed AES key begins neither as TPM_STORED_DATA nor as TPM_STORED_DATA12")
	}
	info := r.sized("sealInfo")
	encData := r.sized("encData")
	if err := r.End("TPM_STORED_DATA"); err != nil {
		return nil, err
	}
	if len(encData) < minEncData {
		return nil, damaged("encData has %d bytes, and a sealed AES key has %d or more", len(encData), minEncData)
	}
	if len(info) == 0 {
		return nil, nil
	}
	return parsePCRInfo(info, long)
}

// PCRs returns the indices of the platform configuration registers that the data is bound to, in
// ascending order. It never fails for a parsed file; for others the error wraps [ErrDamaged].
func (s *TPMSealed) PCRs() ([]int, error) {
	info, err := s.pcrInfo()
	if info == nil || err != nil {
		return nil, err
	}
	return pcrIndices(info.selection), nil
}

// PCRsChanged reports whether the PCRs did not have the required values when the TPM sealed.
func (s *TPMSealed) PCRsChanged() bool {
	info, err := s.pcrInfo()
	return err == nil && info != nil && !bytes.Equal(info.atCreation, info.atRelease)
}

// Container implements [Key].
func (s *TPMSealed) Container() Container { return TSSSealed }

// PublicKey returns nil.
func (s *TPMSealed) PublicKey() crypto.PublicKey { return nil }

// Unsupported implements [Key].
func (s *TPMSealed) Unsupported() error {
	return fmt.Errorf("%w use of sealed data as a key", ErrUnsupported)
}

// CanSign returns false.
func (s *TPMSealed) CanSign() bool { return false }

// CanDecrypt returns false.
func (s *TPMSealed) CanDecrypt() bool { return false }

// CanAgree returns false.
func (s *TPMSealed) CanAgree() bool { return false }

// Sealed returns true.
func (s *TPMSealed) Sealed() bool { return true }

// NeedsSecret returns Secret.
func (s *TPMSealed) NeedsSecret() bool { return s.Secret }

// Migratable returns false.
func (s *TPMSealed) Migratable() bool { return false }

// Marshal implements [Key]. The only container is [TSSSealed].
func (s *TPMSealed) Marshal(c Container) ([]byte, error) {
	if c != TSSSealed {
		return nil, fmt.Errorf("write %v: this is data sealed to a TPM 1.2; use %v", c, TSSSealed)
	}
	if err := s.check(); err != nil {
		return nil, fmt.Errorf("write %v: %w", c, err)
	}
	b := []byte(tssBegin + "\n" + tssKey + "\n")
	b = appendBase64(b, s.Key.Bytes())
	b = append(b, tssAES+"\n"+tssKind+": "+tssCipher+"\n"...)
	b = appendBase64(b, s.AESKey)
	b = append(b, tssData+"\n"...)
	b = appendBase64(b, s.Ciphertext)
	return append(b, tssEnd+"\n"...), nil
}

// appendBase64 appends lines of 64 characters, like OpenSSL.
func appendBase64(b, data []byte) []byte {
	const line = 48
	for len(data) > line {
		b = append(base64.StdEncoding.AppendEncode(b, data[:line]), '\n')
		data = data[line:]
	}
	return append(base64.StdEncoding.AppendEncode(b, data), '\n')
}
