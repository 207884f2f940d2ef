package policy

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/google/go-tpm/tpm2"
	"golang.org/x/crypto/cryptobyte"

	"maclef/blob"
)

// A PCRSelection selects PCRs of one bank.
type PCRSelection struct {
	Bank tpm2.TPMIAlgHash
	PCRs uint32 // bit n is PCR n
}

// maxPolicyPCR is the highest PCR that every TPM 2.0 in a PC has.
const maxPolicyPCR = 23

// parsePCRs parses a list of PCRs such as "sha256:7", "0-7,11" or "sha256:7,sha1:4".
func parsePCRs(list string) ([]PCRSelection, error) {
	var all []PCRSelection
	bank := tpm2.TPMIAlgHash(tpm2.TPMAlgSHA256)
	for item := range strings.SplitSeq(list, ",") {
		item = strings.TrimSpace(item)
		if name, pcrs, named := strings.Cut(item, ":"); named {
			if bank = BankNamed(strings.ToLower(name)); bank == 0 {
				return nil, fmt.Errorf("%q is not a bank of PCRs; sha256 is one", firstWord(name))
			}
			item = pcrs
		}
		from, to, err := pcrRange(item)
		if err != nil {
			return nil, err
		}
		all = add(all, bank, from, to)
	}
	return all, nil
}

// pcrRange parses "7" or "0-7".
func pcrRange(text string) (from, to int, err error) {
	first, last, found := strings.Cut(text, "-")
	if !found {
		last = first
	}
	for _, n := range []struct {
		text string
		to   *int
	}{{first, &from}, {last, &to}} {
		value, err := strconv.ParseUint(n.text, 10, 16)
		if err != nil {
			return 0, 0, fmt.Errorf("%q is not the number of a PCR", firstWord(text))
		}
		if *n.to = int(value); value > maxPolicyPCR {
			return 0, 0, fmt.Errorf("there is no PCR %d: they go from 0 to %d", value, maxPolicyPCR)
		}
	}
	if from > to {
		return 0, 0, fmt.Errorf("the range %s goes backwards", text)
	}
	return from, to, nil
}

func add(all []PCRSelection, bank tpm2.TPMIAlgHash, from, to int) []PCRSelection {
	bits := uint32(2)<<to - uint32(1)<<from
	for i := range all {
		if all[i].Bank == bank {
			all[i].PCRs |= bits
			return all
		}
	}
	return append(all, PCRSelection{Bank: bank, PCRs: bits})
}

// PCRText returns PCRs in the form that ParseSteps takes.
func PCRText(all []PCRSelection) string {
	var banks []string
	for _, s := range all {
		banks = append(banks, BankName(s.Bank)+":"+s.Numbers())
	}
	return "pcr:" + strings.Join(banks, "+")
}

// String returns for example "7" or "0-3,7" for the default bank, sha256, and "7 (sha384)" for
// another.
func (s PCRSelection) String() string {
	if s.Bank == tpm2.TPMAlgSHA256 {
		return s.Numbers()
	}
	return s.Numbers() + " (" + BankName(s.Bank) + ")"
}

// Numbers returns for example "7" or "0-3,7".
func (s PCRSelection) Numbers() string {
	var list []string
	for from := 0; from < maxPCRs; from++ {
		if !s.Has(from) {
			continue
		}
		to := from
		for s.Has(to + 1) {
			to++
		}
		if from == to {
			list = append(list, fmt.Sprint(from))
		} else {
			list = append(list, fmt.Sprintf("%d-%d", from, to))
		}
		from = to
	}
	return strings.Join(list, ",")
}

// Has reports whether a PCR is selected.
func (s PCRSelection) Has(pcr int) bool { return pcr < maxPCRs && s.PCRs>>pcr&1 != 0 }

// indices returns the numbers of the selected PCRs.
func (s PCRSelection) indices() []int {
	var list []int
	for pcr := range maxPCRs {
		if s.Has(pcr) {
			list = append(list, pcr)
		}
	}
	return list
}

// bankNames are the names of banks as users write them.
var bankNames = map[tpm2.TPMIAlgHash]string{
	tpm2.TPMAlgSHA1: "sha1", tpm2.TPMAlgSHA256: "sha256", tpm2.TPMAlgSHA384: "sha384", tpm2.TPMAlgSHA512: "sha512",
	0x12: "sm3-256", 0x27: "sha3-256", 0x28: "sha3-384", 0x29: "sha3-512",
}

// BankName returns a bank's name, or its number if it has none.
func BankName(bank tpm2.TPMIAlgHash) string {
	if name := bankNames[bank]; name != "" {
		return name
	}
	return fmt.Sprintf("%#04x", uint16(bank))
}

// BankNamed returns the bank with a name, 0 if there is none.
func BankNamed(name string) tpm2.TPMIAlgHash {
	for bank, n := range bankNames {
		if n == name {
			return bank
		}
	}
	return 0
}

// maxPCRs is the maximum number of PCRs in a bank.
const maxPCRs = 32

// A pcrAssertion is TPM2_PolicyPCR. TPM 2.0 Library Part 3, section 23.7 (TPM2_PolicyPCR).
type pcrAssertion struct {
	runtimeChecked
	selection []PCRSelection
	list      []byte // TPML_PCR_SELECTION
	digest    []byte // empty: any values
}

// parsePCR parses both forms. The first form has a TPM2B_DIGEST in front; its size cannot be
// mistaken for a count of banks.
func parsePCR(body []byte, size int) (assertion, error) {
	s := cryptobyte.String(body)
	var digest cryptobyte.String
	if s.ReadUint16LengthPrefixed(&digest) && (len(digest) == 0 || len(digest) == size) {
		if selection, rest, err := readPCRs(s); err == nil && len(rest) == 0 && len(selection) > 0 {
			return &pcrAssertion{selection: selection, list: s, digest: digest}, nil
		}
	}
	selection, rest, err := readPCRs(body)
	if err != nil {
		return nil, err
	}
	if len(rest) != size || size == 0 {
		return nil, fmt.Errorf("a digest of %d bytes after the PCRs, and the key's have %d", len(rest), size)
	}
	return &pcrAssertion{selection: selection, list: body[:len(body)-size], digest: rest}, nil
}

// readPCRs parses a TPML_PCR_SELECTION.
func readPCRs(b []byte) (selection []PCRSelection, rest []byte, err error) {
	const maxBanks = 16
	s := cryptobyte.String(b)
	var count uint32
	if !s.ReadUint32(&count) || count > maxBanks {
		return nil, nil, errors.New("it has no list of PCRs")
	}
	for range count {
		var bank uint16
		var bitmap cryptobyte.String
		if !s.ReadUint16(&bank) || !s.ReadUint8LengthPrefixed(&bitmap) || len(bitmap) > maxPCRs/8 {
			return nil, nil, errors.New("its list of PCRs is too short, or has more PCRs than TPMs have")
		}
		selection = append(selection, selectionOf(tpm2.TPMIAlgHash(bank), bitmap))
	}
	return selection, s, nil
}

func selectionOf(bank tpm2.TPMIAlgHash, bitmap []byte) PCRSelection {
	var four [4]byte
	copy(four[:], bitmap)
	return PCRSelection{Bank: bank, PCRs: binary.LittleEndian.Uint32(four[:])}
}

func (a *pcrAssertion) extend(d digest) digest {
	if len(a.digest) == 0 {
		return unpredictable{}.extend(d)
	}
	return d.extend(tpm2.TPMCCPolicyPCR, a.list, a.digest)
}

func (a *pcrAssertion) run(r *runner) error {
	body := binary.BigEndian.AppendUint16(nil, uint16(len(a.digest)))
	body = append(append(body, a.digest...), a.list...)
	err := r.send(tpm2.TPMCCPolicyPCR, body)
	if err == nil && len(a.digest) == 0 {
		r.currentPCRs += " with PCRs " + a.pcrs() + " as they are now"
	}
	if !hasCode(err, tpm2.TPMRCValue, tpm2.TPMRCPCR, tpm2.TPMRCHash) {
		return asUnmet(err, "the TPM refuses TPM2_PolicyPCR")
	}
	if missing := a.missingBank(r.tpm); missing != 0 {
		return unmet(err, "the TPM has no active PCRs of bank %s", BankName(missing))
	}
	return unmet(err, "%s", a.differs())
}

// differs returns a text that says which PCRs have changed. With several PCRs, the digest does
// not tell which.
func (a *pcrAssertion) differs() string {
	n := 0
	for _, s := range a.selection {
		n += len(s.indices())
	}
	if n == 1 {
		return "PCR " + a.pcrs() + " differs"
	}
	return "one or more of PCRs " + a.pcrs() + " differ"
}

func (a *pcrAssertion) pcrs() string {
	var list []string
	for _, s := range a.selection {
		if s.PCRs != 0 {
			list = append(list, s.String())
		}
	}
	return strings.Join(list, " and ")
}

// missingBank returns a selected bank that the TPM does not have, 0 if it has all.
func (a *pcrAssertion) missingBank(tpm TPM) tpm2.TPMIAlgHash {
	banks, err := Banks(tpm)
	if err != nil {
		return 0
	}
	for _, s := range a.selection {
		has := func(bank PCRSelection) bool { return bank.Bank == s.Bank }
		if s.PCRs != 0 && !slices.ContainsFunc(banks, has) {
			return s.Bank
		}
	}
	return 0
}

// Banks returns the TPM's banks that have PCRs, each with its PCRs. TPM 2.0 Library Part 3,
// section 30.2 (TPM2_GetCapability).
func Banks(tpm TPM) ([]PCRSelection, error) {
	rsp, err := do(tpm, tpm2.GetCapability{Capability: tpm2.TPMCapPCRs, PropertyCount: 1})
	if err != nil {
		return nil, err
	}
	list, err := rsp.CapabilityData.Data.AssignedPCR()
	if err != nil {
		return nil, fmt.Errorf("TPM2_GetCapability: malformed reply: %w", err)
	}
	var active []PCRSelection
	for _, s := range list.PCRSelections {
		if selection := selectionOf(s.Hash, s.PCRSelect); selection.PCRs != 0 {
			active = append(active, selection)
		}
	}
	return active, nil
}

// PCRs returns TPM2_PolicyPCR for a key file, for the present values of PCRs. alg is the policy's
// hash algorithm. read returns the values of PCRs of one bank, as (*tpm20.Conn).PCRRead does. The
// selection has 24 PCRs for each bank, which every TPM has.
func PCRs(alg tpm2.TPMIAlgHash, selection []PCRSelection, read func(bank tpm2.TPMIAlgHash, pcrs []int) (map[int][]byte, error)) (blob.PolicyCommand, error) {
	hash, err := hashOf(alg)
	if err != nil {
		return blob.PolicyCommand{}, err
	}
	body := binary.BigEndian.AppendUint32(nil, uint32(len(selection)))
	var all [][]byte
	for _, s := range selection {
		body = binary.BigEndian.AppendUint16(body, uint16(s.Bank))
		body = append(body, 3, byte(s.PCRs), byte(s.PCRs>>8), byte(s.PCRs>>16))
		pcrs := s.indices()
		values, err := read(s.Bank, pcrs)
		if err != nil {
			return blob.PolicyCommand{}, err
		}
		for _, pcr := range pcrs {
			all = append(all, values[pcr])
		}
	}
	return blob.PolicyCommand{Code: uint32(tpm2.TPMCCPolicyPCR), Policy: append(body, sum(hash, all...)...)}, nil
}
