package blob

import (
	"bytes"
	"encoding/binary"

	"github.com/google/go-tpm/tpm2"
	"golang.org/x/crypto/cryptobyte"

	"maclef/internal/pubarea"
)

// esysKey is IESYSC_KEY_RSRC, the type of a key or sealed data among the objects of tpm2-tss.
const esysKey = 1

// isESYSObject reports whether a file begins like a persistent key that Esys_TR_Serialize wrote: a
// persistent handle, and the size of a name.
func isESYSObject(b []byte) bool {
	if len(b) < 8 || b[0] != handlePersistent || b[4] != 0 {
		return false
	}
	digest := pubarea.HashSizes[tpm2.TPMAlgID(binary.BigEndian.Uint16(b[6:]))]
	return digest != 0 && int(b[5]) == 2+digest
}

// parseESYSObject parses a persistent key that Esys_TR_Serialize wrote:
//
//	handle  uint32
//	name    TPM2B_NAME
//	type    uint32, IESYSC_KEY_RSRC
//	public  TPM2B_PUBLIC
//
// tpm2-tss, esys_types.h (IESYS_RESOURCE). Nothing tells whether the key has a secret, so EmptyAuth is
// false.
func parseESYSObject(b []byte) (Key, error) {
	var (
		handle, kind uint32
		name         cryptobyte.String
	)
	s := cryptobyte.String(b)
	if !s.ReadUint32(&handle) || !s.ReadUint16LengthPrefixed(&name) || !s.ReadUint32(&kind) {
		return nil, truncated("an ESYS object ends in its first fields, after %d bytes", len(b))
	}
	if kind != esysKey {
		return nil, damaged("type of the ESYS object is %d, and that of keys is %d", kind, esysKey)
	}
	if err := checkHalf(s, "public area"); err != nil {
		return nil, err
	}
	t := &TSS2{Handle: handle, Public: bytes.Clone(s), container: ESYSObject}
	if _, err := pubarea.Parse(t.Public); err != nil {
		return nil, err
	}
	if own, err := t.Name(); err != nil || !bytes.Equal(own, name) {
		return nil, damaged("the name in the ESYS object is not that of its public area")
	}
	return t, nil
}
