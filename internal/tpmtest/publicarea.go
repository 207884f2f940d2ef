package tpmtest

import (
	"encoding/binary"

	"github.com/google/go-tpm/tpm2"
)

// PublicArea makes a TPM2B_PUBLIC of fields, whatever they are: int stands for a uint16,
// uint32 for itself, []byte has its size in front.
func PublicArea(fields ...any) []byte {
	var b []byte
	for _, f := range fields {
		switch f := f.(type) {
		case int:
			b = binary.BigEndian.AppendUint16(b, uint16(f))
		case tpm2.TPMAlgID:
			b = binary.BigEndian.AppendUint16(b, uint16(f))
		case tpm2.TPMECCCurve:
			b = binary.BigEndian.AppendUint16(b, uint16(f))
		case uint32:
			b = binary.BigEndian.AppendUint32(b, f)
		case []byte:
			b = append(binary.BigEndian.AppendUint16(b, uint16(len(f))), f...)
		default:
			panic(f)
		}
	}
	return append(binary.BigEndian.AppendUint16(nil, uint16(len(b))), b...)
}
