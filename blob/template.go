package blob

import "fmt"

// Template describes a new key. Its zero value is the default of create_tpm_key: 2048 bits, PKCS #1
// v1.5 encryption, DER signatures, no secret.
type Template struct {
	Bits      int       // 512, 1024 or 2048; 0 means 2048, or in Wrap the size of the given key
	EncScheme EncScheme // ESRSAESPKCSv15 (also when 0) or ESRSAESOAEPSHA1MGF1
	SigScheme SigScheme // SSRSASSAPKCS1v15DER (also when 0) or SSRSASSAPKCS1v15SHA1

	// NeedSecret makes each use of the key need its secret.
	NeedSecret bool
	// UsageAuth is the SHA-1 of the secret. Only Wrap with NeedSecret uses it; a TPM that creates a
	// key gets the secret in the command.
	UsageAuth [20]byte
	// MigrationAuth is the SHA-1 of the secret for moving a wrapped key to another TPM. Only Wrap
	// uses it.
	MigrationAuth [20]byte
}

// NewTemplate returns a legacy key (it signs and decrypts) without modulus and private part. Its
// [TPMKey.Bytes] is the keyInfo of TPM_CreateWrapKey. Like the keys of create_tpm_key it is PEM,
// volatile and not migratable. It returns an error if such a key cannot have the size or scheme.
//
// TPM Main Part 3, section 10.4 (TPM_CreateWrapKey)
func NewTemplate(t Template) (*TPMKey, error) {
	k := &TPMKey{
		Usage:     KeyLegacy,
		Flags:     IsVolatile,
		EncScheme: t.EncScheme,
		SigScheme: t.SigScheme,
		KeyLength: uint32(t.Bits),
		NumPrimes: 2,
	}
	if t.NeedSecret {
		k.AuthDataUsage = AuthAlways
	}
	if t.EncScheme == 0 {
		k.EncScheme = ESRSAESPKCSv15
	}
	if t.SigScheme == 0 {
		k.SigScheme = SSRSASSAPKCS1v15DER
	}
	if t.Bits == 0 {
		k.KeyLength = 2048
	}
	switch {
	case t.Bits != 0 && t.Bits != 512 && t.Bits != 1024 && t.Bits != 2048:
		return nil, fmt.Errorf("key size is %d bits, and TPM 1.2 has keys of 512, 1024 or 2048 bits", t.Bits)
	case k.EncScheme != ESRSAESPKCSv15 && k.EncScheme != ESRSAESOAEPSHA1MGF1:
		return nil, fmt.Errorf("encryption scheme is %v, and a legacy key has %v or %v", k.EncScheme, ESRSAESPKCSv15, ESRSAESOAEPSHA1MGF1)
	case k.SigScheme != SSRSASSAPKCS1v15DER && k.SigScheme != SSRSASSAPKCS1v15SHA1:
		return nil, fmt.Errorf("signature scheme is %v, and a legacy key has %v or %v", k.SigScheme, SSRSASSAPKCS1v15DER, SSRSASSAPKCS1v15SHA1)
	}
	return k, nil
}
