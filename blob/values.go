package blob

import (
	"fmt"
	"strings"
)

// KeyUsage says what a TPM does with a key.
//
// TPM Main Part 2, section 5.8 (TPM_KEY_USAGE)
type KeyUsage uint16

// The key usages of TPM 1.2.
const (
	KeySigning    KeyUsage = 0x0010 // signs, nothing else
	KeyStorage    KeyUsage = 0x0011 // parent of other keys
	KeyIdentity   KeyUsage = 0x0012 // attestation identity
	KeyAuthChange KeyUsage = 0x0013 // ephemeral, for TPM_ChangeAuthAsym
	KeyBind       KeyUsage = 0x0014 // decrypts, nothing else
	KeyLegacy     KeyUsage = 0x0015 // signs and decrypts
	KeyMigrate    KeyUsage = 0x0016 // migration authority
)

// EncScheme is the encryption scheme of a key.
//
// TPM Main Part 2, section 5.8.1 (TPM_ENC_SCHEME)
type EncScheme uint16

// The encryption schemes of RSA keys.
const (
	ESNone              EncScheme = 0x0001
	ESRSAESPKCSv15      EncScheme = 0x0002 // PKCS #1 v1.5
	ESRSAESOAEPSHA1MGF1 EncScheme = 0x0003 // OAEP, SHA-1, label "TCPA"
)

// SigScheme is the signature scheme of a key.
//
// TPM Main Part 2, section 5.8.1 (TPM_SIG_SCHEME)
type SigScheme uint16

// The signature schemes of RSA keys.
const (
	SSNone               SigScheme = 0x0001
	SSRSASSAPKCS1v15SHA1 SigScheme = 0x0002 // a SHA-1 digest
	SSRSASSAPKCS1v15DER  SigScheme = 0x0003 // a DigestInfo, or any bytes, unchanged
	SSRSASSAPKCS1v15INFO SigScheme = 0x0004 // a TPM_SIGN_INFO structure
)

// KeyFlags is a set of flags of a key.
//
// TPM Main Part 2, section 5.10 (TPM_KEY_FLAGS)
type KeyFlags uint32

// The key flags of TPM 1.2.
const (
	Redirection      KeyFlags = 0x01 // output goes to another entity than the caller
	Migratable       KeyFlags = 0x02 // may be moved to another TPM
	IsVolatile       KeyFlags = 0x04 // unloaded when the TPM starts
	PCRIgnoredOnRead KeyFlags = 0x08 // the public key can be read with any PCR values
	MigrateAuthority KeyFlags = 0x10 // under control of a migration authority

	allFlags = Redirection | Migratable | IsVolatile | PCRIgnoredOnRead | MigrateAuthority
)

// AuthDataUsage says when a key's secret is needed.
//
// TPM Main Part 2, section 5.9 (TPM_AUTH_DATA_USAGE)
type AuthDataUsage uint8

// The values of AuthDataUsage.
const (
	AuthNever        AuthDataUsage = 0x00 // used without authorization
	AuthAlways       AuthDataUsage = 0x01 // each use needs the secret
	NoReadPubkeyAuth AuthDataUsage = 0x03 // needed for every use except reading the public key
)

// String returns the specification's name of u.
func (u KeyUsage) String() string {
	switch u {
	case KeySigning:
		return "TPM_KEY_SIGNING"
	case KeyStorage:
		return "TPM_KEY_STORAGE"
	case KeyIdentity:
		return "TPM_KEY_IDENTITY"
	case KeyAuthChange:
		return "TPM_KEY_AUTHCHANGE"
	case KeyBind:
		return "TPM_KEY_BIND"
	case KeyLegacy:
		return "TPM_KEY_LEGACY"
	case KeyMigrate:
		return "TPM_KEY_MIGRATE"
	}
	return fmt.Sprintf("unknown (0x%04x)", uint16(u))
}

// String returns the specification's name of s.
func (s EncScheme) String() string {
	switch s {
	case ESNone:
		return "TPM_ES_NONE"
	case ESRSAESPKCSv15:
		return "TPM_ES_RSAESPKCSv15"
	case ESRSAESOAEPSHA1MGF1:
		return "TPM_ES_RSAESOAEP_SHA1_MGF1"
	}
	return fmt.Sprintf("unknown (0x%04x)", uint16(s))
}

// String returns the specification's name of s.
func (s SigScheme) String() string {
	switch s {
	case SSNone:
		return "TPM_SS_NONE"
	case SSRSASSAPKCS1v15SHA1:
		return "TPM_SS_RSASSAPKCS1v15_SHA1"
	case SSRSASSAPKCS1v15DER:
		return "TPM_SS_RSASSAPKCS1v15_DER"
	case SSRSASSAPKCS1v15INFO:
		return "TPM_SS_RSASSAPKCS1v15_INFO"
	}
	return fmt.Sprintf("unknown (0x%04x)", uint16(s))
}

// String returns the specification's names of the set flags, separated by "|", or "none".
func (f KeyFlags) String() string {
	var names []string
	for _, n := range []struct {
		flag KeyFlags
		name string
	}{
		{Redirection, "redirection"}, {Migratable, "migratable"}, {IsVolatile, "isVolatile"},
		{PCRIgnoredOnRead, "pcrIgnoredOnRead"}, {MigrateAuthority, "migrateAuthority"},
	} {
		if f&n.flag != 0 {
			names = append(names, n.name)
		}
	}
	if rest := f &^ allFlags; rest != 0 {
		names = append(names, fmt.Sprintf("unknown (0x%08x)", uint32(rest)))
	}
	if names == nil {
		return "none"
	}
	return strings.Join(names, "|")
}

// String returns the specification's name of u.
func (u AuthDataUsage) String() string {
	switch u {
	case AuthNever:
		return "TPM_AUTH_NEVER"
	case AuthAlways:
		return "TPM_AUTH_ALWAYS"
	case NoReadPubkeyAuth:
		return "TPM_NO_READ_PUBKEY_AUTH"
	}
	return fmt.Sprintf("unknown (0x%02x)", uint8(u))
}
