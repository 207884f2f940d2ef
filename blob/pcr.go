package blob

// tagPCRInfoLong is TPM_TAG_PCR_INFO_LONG.
//
// TPM Main Part 2, section 3.1 (TPM_STRUCTURE_TAG)
const tagPCRInfoLong = 0x0006

// maxPCRSelect is the largest TPM_PCR_SELECTION, in bytes of eight PCRs. TPMs have 16 or 24 PCRs.
const maxPCRSelect = 32

const digestSize = 20 // of a TPM_COMPOSITE_HASH, SHA-1

// PCRs returns the indices of the platform configuration registers that the key is bound to, in
// ascending order. It never fails for a parsed key; for other keys the error wraps [ErrDamaged].
func (k *TPMKey) PCRs() ([]int, error) {
	selection, err := k.pcrSelection()
	if err != nil {
		return nil, err
	}
	var indices []int
	for i := range 8 * len(selection) {
		if selection[i/8]>>(i%8)&1 != 0 {
			indices = append(indices, i)
		}
	}
	return indices, nil
}

// pcrSelection returns the bit map of the PCRs that the key is bound to. The lowest index is the
// lowest bit of the first byte.
//
//	TPM_PCR_INFO                       TPM_PCR_INFO_LONG
//	pcrSelection      uint16 size, map tag                   uint16 0006
//	digestAtRelease   20 bytes         localityAtCreation    uint8
//	digestAtCreation  20 bytes         localityAtRelease     uint8
//	                                   creationPCRSelection  uint16 size, map
//	                                   releasePCRSelection   uint16 size, map
//	                                   digestAtCreation      20 bytes
//	                                   digestAtRelease       20 bytes
//
// TPM Main Part 2, sections 8.1 (TPM_PCR_SELECTION), 8.3 (TPM_PCR_INFO) and 8.4
// (TPM_PCR_INFO_LONG)
func (k *TPMKey) pcrSelection() ([]byte, error) {
	if len(k.PCRInfo) == 0 {
		return nil, nil
	}
	r := newReader(k.PCRInfo, ErrDamaged)
	if k.Key12 {
		if tag := r.Uint16("PCRInfo tag"); r.Err == nil && tag != tagPCRInfoLong {
			return nil, damaged("PCRInfo of a TPM_KEY12 has tag 0x%04x, not 0x%04x", tag, tagPCRInfoLong)
		}
		r.Uint8("localityAtCreation")
		r.Uint8("localityAtRelease")
		r.selection("creationPCRSelection")
	}
	selection := r.selection("PCR selection")
	r.Bytes("PCR digest", digestSize)
	r.Bytes("PCR digest", digestSize)
	return selection, r.End("PCRInfo")
}

// selection reads the bit map of a TPM_PCR_SELECTION.
func (r *reader) selection(field string) []byte {
	n := r.Uint16(field)
	if r.Err == nil && n > maxPCRSelect {
		r.Err = damaged("%s has %d bytes, more PCRs than any TPM has", field, n)
	}
	return r.Bytes(field, int(n))
}
