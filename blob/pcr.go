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
	return pcrIndices(selection), err
}

// pcrIndices returns the indices in the bit map of a TPM_PCR_SELECTION. The lowest index is the
// lowest bit of the first byte.
func pcrIndices(selection []byte) (indices []int) {
	for i := range 8 * len(selection) {
		if selection[i/8]>>(i%8)&1 != 0 {
			indices = append(indices, i)
		}
	}
	return indices
}

// pcrSelection returns the bit map of the PCRs that the key is bound to.
func (k *TPMKey) pcrSelection() ([]byte, error) {
	if len(k.PCRInfo) == 0 {
		return nil, nil
	}
	info, err := parsePCRInfo(k.PCRInfo, k.Key12)
	if err != nil {
		return nil, err
	}
	return info.selection, nil
}

// A pcrInfo is what a TPM_PCR_INFO or TPM_PCR_INFO_LONG says.
type pcrInfo struct {
	selection             []byte // bit map of the PCRs that must have the values of atRelease
	atCreation, atRelease []byte // TPM_COMPOSITE_HASH
}

// parsePCRInfo parses a TPM_PCR_INFO_LONG if long is set, else a TPM_PCR_INFO.
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
func parsePCRInfo(b []byte, long bool) (*pcrInfo, error) {
	r := newReader(b, ErrDamaged)
	if long {
		if tag := r.Uint16("PCRInfo tag"); r.Err == nil && tag != tagPCRInfoLong {
			return nil, damaged("PCRInfo has tag 0x%04x, and a TPM_PCR_INFO_LONG has 0x%04x", tag, tagPCRInfoLong)
		}
		r.Uint8("localityAtCreation")
		r.Uint8("localityAtRelease")
		r.selection("creationPCRSelection")
	}
	info := &pcrInfo{selection: r.selection("PCR selection")}
	info.atRelease = r.Bytes("PCR digest", digestSize)
	info.atCreation = r.Bytes("PCR digest", digestSize)
	if long {
		info.atCreation, info.atRelease = info.atRelease, info.atCreation
	}
	return info, r.End("PCRInfo")
}

// selection reads the bit map of a TPM_PCR_SELECTION.
func (r *reader) selection(field string) []byte {
	n := r.Uint16(field)
	if r.Err == nil && n > maxPCRSelect {
		r.Err = damaged("%s has %d bytes, more PCRs than any TPM has", field, n)
	}
	return r.Bytes(field, int(n))
}
