package tpm20

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maclef/internal/policy"
	"math/bits"
	"strings"

	"github.com/google/go-tpm/tpm2"
	"golang.org/x/crypto/cryptobyte"
)

// A pcrTerm is TPM2_PolicyPCR.
//
// TPM 2.0 Library Part 3, section 23.7
type pcrTerm struct {
	selection []policy.PCRSelection
	list      []byte // TPML_PCR_SELECTION
	digest    []byte // empty: the values that the PCRs have, whichever
}

const (
	maxBanks = 16
	maxPCR   = 32
)

// newPCRTerm reads both forms there are. A count of banks and the size of a digest
// cannot be mistaken for each other.
func newPCRTerm(body []byte, size int) (*pcrTerm, error) {
	s := cryptobyte.String(body)
	var digest cryptobyte.String
	if s.ReadUint16LengthPrefixed(&digest) && (len(digest) == 0 || len(digest) == size) {
		if selection, rest, err := readPCRSelection(s); err == nil && len(rest) == 0 && len(selection) > 0 {
			return &pcrTerm{selection, s, digest}, nil
		}
	}
	selection, rest, err := readPCRSelection(body)
	if err != nil {
		return nil, err
	}
	if len(rest) != size {
		return nil, fmt.Errorf("a digest of %d bytes behind the PCRs, and the key's have %d", len(rest), size)
	}
	return &pcrTerm{selection, body[:len(body)-size], rest}, nil
}

// readPCRSelection reads a TPML_PCR_SELECTION.
func readPCRSelection(b []byte) (selection []policy.PCRSelection, rest []byte, err error) {
	s := cryptobyte.String(b)
	var count uint32
	if !s.ReadUint32(&count) || count > maxBanks {
		return nil, nil, errors.New("it has no list of PCRs")
	}
	for range count {
		var bank uint16
		var bitmap cryptobyte.String
		if !s.ReadUint16(&bank) || !s.ReadUint8LengthPrefixed(&bitmap) || len(bitmap) > maxPCR/8 {
			return nil, nil, errors.New("its list of PCRs ends too early, or has more PCRs than TPMs do")
		}
		var four [4]byte
		copy(four[:], bitmap)
		selection = append(selection, policy.PCRSelection{Bank: tpm2.TPMIAlgHash(bank), PCRs: binary.LittleEndian.Uint32(four[:])})
	}
	return selection, s, nil
}

// marshalPCRs writes a TPML_PCR_SELECTION for 24 PCRs a bank, as many as every TPM
// has.
func marshalPCRs(selection []policy.PCRSelection) []byte {
	b := binary.BigEndian.AppendUint32(nil, uint32(len(selection)))
	for _, s := range selection {
		b = binary.BigEndian.AppendUint16(b, uint16(s.Bank))
		b = append(b, 3, byte(s.PCRs), byte(s.PCRs>>8), byte(s.PCRs>>16))
	}
	return b
}

func (t *pcrTerm) extend(d policyDigest) policyDigest {
	if len(t.digest) == 0 {
		return d.unknown()
	}
	return d.extend(tpm2.TPMCCPolicyPCR, t.list, t.digest)
}

func (t *pcrTerm) check(policyDigest) error { return nil }

func (t *pcrTerm) run(r *policyRun) error {
	body := binary.BigEndian.AppendUint16(nil, uint16(len(t.digest)))
	body = append(append(body, t.digest...), t.list...)
	err := r.send(tpm2.TPMCCPolicyPCR, body)
	if err == nil && len(t.digest) == 0 {
		r.asIs += " with PCRs " + t.pcrs() + " as they are now"
	}
	if !says(err, tpm2.TPMRCValue, tpm2.TPMRCPCR, tpm2.TPMRCHash) {
		return r.explain(err, "the TPM refuses TPM2_PolicyPCR")
	}
	if missing := r.missingBank(t.selection); missing != 0 {
		return unmet(err, "the TPM has no active PCRs of bank %s", policy.BankName(missing))
	}
	return unmet(err, "%s", t.differs())
}

// differs says which PCRs are not as they were; a digest of several does not tell
// which of them.
func (t *pcrTerm) differs() string {
	n := 0
	for _, s := range t.selection {
		n += bits.OnesCount32(s.PCRs)
	}
	if n == 1 {
		return "PCR " + t.pcrs() + " differs"
	}
	return "one or more of PCRs " + t.pcrs() + " differ"
}

func (t *pcrTerm) pcrs() string {
	var list []string
	for _, s := range t.selection {
		if s.PCRs != 0 {
			list = append(list, s.String())
		}
	}
	return strings.Join(list, " and ")
}

// PCRBanks are the banks that have PCRs, in the TPM's order, each with those it has.
//
// TPM 2.0 Library Part 3, section 30.2 (TPM2_GetCapability), TPM_CAP_PCRS
func (c *Conn) PCRBanks() ([]policy.PCRSelection, error) {
	rsp, err := Run(c, tpm2.GetCapability{Capability: tpm2.TPMCapPCRs, PropertyCount: 1})
	if err != nil {
		return nil, err
	}
	list, err := rsp.CapabilityData.Data.AssignedPCR()
	if err != nil {
		return nil, fmt.Errorf("TPM2_GetCapability: malformed reply: %w", err)
	}
	var active []policy.PCRSelection
	for _, s := range list.PCRSelections {
		if selection := selectionOf(s); selection.PCRs != 0 {
			active = append(active, selection)
		}
	}
	return active, nil
}

func selectionOf(s tpm2.TPMSPCRSelection) policy.PCRSelection {
	var four [4]byte
	copy(four[:], s.PCRSelect)
	return policy.PCRSelection{Bank: s.Hash, PCRs: binary.LittleEndian.Uint32(four[:])}
}

// PCRDigest is the digest of PCRs as they are now, as TPM2_PolicyPCR compares it, by
// the hash alg.
func (c *Conn) PCRDigest(alg tpm2.TPMIAlgHash, selection []policy.PCRSelection) ([]byte, error) {
	hash, err := policyHash(alg)
	if err != nil {
		return nil, err
	}
	var inOrder [][]byte
	for _, s := range selection {
		var pcrs []int
		for pcr := range maxPCR {
			if s.Has(pcr) {
				pcrs = append(pcrs, pcr)
			}
		}
		values, err := c.PCRRead(s.Bank, pcrs)
		if err != nil {
			return nil, err
		}
		for _, pcr := range pcrs {
			inOrder = append(inOrder, values[pcr])
		}
	}
	return digestOf(hash, inOrder...), nil
}

// PolicyPCR is TPM2_PolicyPCR as key files have it: PCRs as they have digest, which
// is that of PCRDigest.
func PolicyPCR(selection []policy.PCRSelection, digest []byte) PolicyCommand {
	return PolicyCommand{tpm2.TPMCCPolicyPCR, append(marshalPCRs(selection), digest...)}
}

// PolicyAuthValue is TPM2_PolicyAuthValue as key files have it.
func PolicyAuthValue() PolicyCommand { return PolicyCommand{Code: tpm2.TPMCCPolicyAuthValue} }

// ErrNoPCR is a PCR, or a bank of them, that the TPM does not have.
var ErrNoPCR = errors.New("the TPM has no such PCR")

// PCRRead returns the values of some PCRs in the bank of a hash. Part 3, section
// 22.4 (TPM2_PCR_Read).
func (c *Conn) PCRRead(bank tpm2.TPMIAlgHash, pcrs []int) (map[int][]byte, error) {
	hash, err := bank.Hash()
	if err != nil {
		return nil, fmt.Errorf("bank %#x: %w", uint16(bank), err)
	}
	values, wanted := map[int][]byte{}, map[int]bool{}
	for _, pcr := range pcrs {
		if pcr < 0 || pcr > 31 {
			return nil, fmt.Errorf("PCR %d: %w", pcr, ErrNoPCR)
		}
		wanted[pcr] = true
	}
	for len(wanted) > 0 { // a TPM tells eight at once
		cmd := tpm2.PCRRead{PCRSelectionIn: tpm2.TPMLPCRSelection{
			PCRSelections: []tpm2.TPMSPCRSelection{{Hash: bank, PCRSelect: tpm2.PCClientCompatible.PCRs(numbersOf(wanted)...)}},
		}}
		before := len(wanted)
		_, err := runChecked(c, cmd, func(rsp *tpm2.PCRReadResponse) error {
			return takePCRs(rsp, bank, hash.Size(), wanted, values)
		})
		if errors.Is(err, tpm2.TPMRCValue) || errors.Is(err, tpm2.TPMRCHash) {
			err = fmt.Errorf("PCR %v of bank %#x: %w (%w)", numbersOf(wanted), uint16(bank), ErrNoPCR, err)
		}
		if err != nil {
			return nil, err
		}
		if len(wanted) == before {
			return nil, fmt.Errorf("PCR %v of bank %#x: %w", numbersOf(wanted), uint16(bank), ErrNoPCR)
		}
	}
	return values, nil
}

// takePCRs moves what a reply has from wanted to values.
func takePCRs(rsp *tpm2.PCRReadResponse, bank tpm2.TPMIAlgHash, size int, wanted map[int]bool, values map[int][]byte) error {
	digests := rsp.PCRValues.Digests
	for _, selection := range rsp.PCRSelectionOut.PCRSelections {
		for pcr := range 8 * len(selection.PCRSelect) {
			if selection.PCRSelect[pcr/8]>>(pcr%8)&1 == 0 {
				continue
			}
			if selection.Hash != bank || !wanted[pcr] || len(digests) == 0 || len(digests[0].Buffer) != size {
				return fmt.Errorf("PCR %d of bank %#x was not asked for, or has no value", pcr, uint16(selection.Hash))
			}
			values[pcr], digests = digests[0].Buffer, digests[1:]
			delete(wanted, pcr)
		}
	}
	if len(digests) != 0 {
		return fmt.Errorf("%d values of nothing", len(digests))
	}
	return nil
}

func numbersOf(set map[int]bool) []uint {
	var numbers []uint
	for pcr := range 32 {
		if set[pcr] {
			numbers = append(numbers, uint(pcr))
		}
	}
	return numbers
}
