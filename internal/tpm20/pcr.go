package tpm20

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/google/go-tpm/tpm2"
)

// ErrNoPCR means that the TPM does not have a PCR, or the bank.
var ErrNoPCR = errors.New("the TPM has no such PCR")

// PCRRead returns the values of PCRs in the bank of a hash algorithm. TPM 2.0 Library Part 3,
// section 22.4 (TPM2_PCR_Read).
func (c *Conn) PCRRead(bank tpm2.TPMIAlgHash, pcrs []int) (map[int][]byte, error) {
	hash, err := bank.Hash()
	if err != nil {
		return nil, fmt.Errorf("bank %#x: %w", uint16(bank), err)
	}
	values, wanted := map[int][]byte{}, map[uint]bool{}
	for _, pcr := range pcrs {
		if pcr < 0 || pcr > 31 {
			return nil, fmt.Errorf("PCR %d: %w", pcr, ErrNoPCR)
		}
		wanted[uint(pcr)] = true
	}
	for len(wanted) > 0 { // a reply has at most eight values
		numbers := slices.Sorted(maps.Keys(wanted))
		cmd := tpm2.PCRRead{PCRSelectionIn: tpm2.TPMLPCRSelection{
			PCRSelections: []tpm2.TPMSPCRSelection{{Hash: bank, PCRSelect: tpm2.PCClientCompatible.PCRs(numbers...)}},
		}}
		_, err := runChecked(c, cmd, func(rsp *tpm2.PCRReadResponse) error {
			return collectPCRs(rsp, bank, hash.Size(), wanted, values)
		})
		if errors.Is(err, tpm2.TPMRCValue) || errors.Is(err, tpm2.TPMRCHash) {
			err = fmt.Errorf("PCR %v of bank %#x: %w (%w)", numbers, uint16(bank), ErrNoPCR, err)
		}
		if err != nil {
			return nil, err
		}
		if len(wanted) == len(numbers) {
			return nil, fmt.Errorf("PCR %v of bank %#x: %w", numbers, uint16(bank), ErrNoPCR)
		}
	}
	return values, nil
}

// collectPCRs moves the PCRs of a reply from wanted to values.
func collectPCRs(rsp *tpm2.PCRReadResponse, bank tpm2.TPMIAlgHash, size int, wanted map[uint]bool, values map[int][]byte) error {
	digests := rsp.PCRValues.Digests
	for _, selection := range rsp.PCRSelectionOut.PCRSelections {
		for pcr := range 8 * len(selection.PCRSelect) {
			if selection.PCRSelect[pcr/8]>>(pcr%8)&1 == 0 {
				continue
			}
			if selection.Hash != bank || !wanted[uint(pcr)] || len(digests) == 0 || len(digests[0].Buffer) != size {
				return fmt.Errorf("PCR %d of bank %#x was not asked for, or has no value", pcr, uint16(selection.Hash))
			}
			values[pcr], digests = digests[0].Buffer, digests[1:]
			delete(wanted, uint(pcr))
		}
	}
	if len(digests) != 0 {
		return fmt.Errorf("%d values too many", len(digests))
	}
	return nil
}
