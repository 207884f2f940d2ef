package blob

import (
	"fmt"
	"testing"
)

func TestNames(t *testing.T) {
	for _, c := range []struct {
		value fmt.Stringer
		want  string
	}{
		{KeySigning, "TPM_KEY_SIGNING"},
		{KeyStorage, "TPM_KEY_STORAGE"},
		{KeyIdentity, "TPM_KEY_IDENTITY"},
		{KeyAuthChange, "TPM_KEY_AUTHCHANGE"},
		{KeyBind, "TPM_KEY_BIND"},
		{KeyLegacy, "TPM_KEY_LEGACY"},
		{KeyMigrate, "TPM_KEY_MIGRATE"},
		{KeyUsage(0x99), "unknown (0x0099)"},
		{ESNone, "TPM_ES_NONE"},
		{ESRSAESPKCSv15, "TPM_ES_RSAESPKCSv15"},
		{ESRSAESOAEPSHA1MGF1, "TPM_ES_RSAESOAEP_SHA1_MGF1"},
		{EncScheme(4), "unknown (0x0004)"},
		{SSNone, "TPM_SS_NONE"},
		{SSRSASSAPKCS1v15SHA1, "TPM_SS_RSASSAPKCS1v15_SHA1"},
		{SSRSASSAPKCS1v15DER, "TPM_SS_RSASSAPKCS1v15_DER"},
		{SSRSASSAPKCS1v15INFO, "TPM_SS_RSASSAPKCS1v15_INFO"},
		{SigScheme(0), "unknown (0x0000)"},
		{KeyFlags(0), "none"},
		{Redirection | PCRIgnoredOnRead | MigrateAuthority, "redirection|pcrIgnoredOnRead|migrateAuthority"},
		{Migratable | IsVolatile | 0x20, "migratable|isVolatile|unknown (0x00000020)"},
		{AuthNever, "TPM_AUTH_NEVER"},
		{AuthAlways, "TPM_AUTH_ALWAYS"},
		{NoReadPubkeyAuth, "TPM_NO_READ_PUBKEY_AUTH"},
		{AuthDataUsage(2), "unknown (0x02)"},
		{PEM, "PEM TSS KEY BLOB"},
		{OctetString, "DER OCTET STRING"},
		{TssBlob, "DER TssBlob"},
		{Raw, "bare TPM_KEY"},
		{SimpleTPMPK11, "simple-tpm-pk11 text"},
		{Container(-1), "unknown container -1"},
	} {
		if got := c.value.String(); got != c.want {
			t.Errorf("%T: %q, want %q", c.value, got, c.want)
		}
	}
}

// TestCapabilities checks that usage and scheme decide together.
func TestCapabilities(t *testing.T) {
	for _, c := range []struct {
		usage         KeyUsage
		enc           EncScheme
		sig           SigScheme
		sign, decrypt bool
	}{
		{KeyLegacy, ESRSAESPKCSv15, SSRSASSAPKCS1v15DER, true, true},
		{KeyLegacy, ESNone, SSRSASSAPKCS1v15SHA1, true, false},
		{KeyLegacy, ESRSAESOAEPSHA1MGF1, SSNone, false, true},
		{KeySigning, ESRSAESPKCSv15, SSRSASSAPKCS1v15DER, true, false},
		{KeySigning, ESNone, SSRSASSAPKCS1v15INFO, false, false},
		{KeyBind, ESRSAESOAEPSHA1MGF1, SSRSASSAPKCS1v15DER, false, true},
		{KeyStorage, ESRSAESOAEPSHA1MGF1, SSNone, false, false},
		{KeyIdentity, ESNone, SSRSASSAPKCS1v15SHA1, false, false},
	} {
		k := &TPMKey{Usage: c.usage, EncScheme: c.enc, SigScheme: c.sig}
		if k.CanSign() != c.sign || k.CanDecrypt() != c.decrypt {
			t.Errorf("%v %v %v: CanSign %v, CanDecrypt %v", c.usage, c.enc, c.sig, k.CanSign(), k.CanDecrypt())
		}
	}
}
