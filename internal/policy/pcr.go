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

// A PCRSelection is PCRs of one bank.
type PCRSelection struct {
	Bank tpm2.TPMIAlgHash
	PCRs uint32 // bit n is PCR n
}

// maxPolicyPCR is the highest PCR that every TPM 2.0 of a PC has.
const maxPolicyPCR = 23

// ParsePCRs reads PCRs as people write them in a policy, such as "pcr:sha256:7",
// "pcr:0-7,11" or "pcr:sha256:7,11+sha1:4".
func ParsePCRs(text string) ([]PCRSelection, error) {
	kind, list, found := strings.Cut(text, ":")
	switch {
	case kind == "authvalue" || kind == "password":
		return nil, errors.New("a key with a secret needs that in any case")
	case kind != "pcr" || !found:
		return nil, errors.New(`it does not begin with "pcr:"`)
	}
	var all []PCRSelection
	bank := tpm2.TPMIAlgHash(tpm2.TPMAlgSHA256)
	for _, item := range strings.Split(strings.ReplaceAll(list, "+", ","), ",") {
		item = strings.TrimSpace(item)
		if name, pcrs, named := strings.Cut(item, ":"); named {
			if bank = BankNamed(strings.ToLower(name)); bank == 0 {
				return nil, fmt.Errorf("%q is no bank of PCRs, such as sha256 is", name)
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

// pcrRange reads "7" or "0-7".
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
			return 0, 0, fmt.Errorf("%q is no number of a PCR", text)
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

// PCRText writes PCRs as ParsePCRs reads them.
func PCRText(all []PCRSelection) string {
	var banks []string
	for _, s := range all {
		banks = append(banks, BankName(s.Bank)+":"+s.Numbers())
	}
	return "pcr:" + strings.Join(banks, "+")
}

// String is "7" or "0-3,7" in the bank that is meant when none is named, else
// "7 (sha384)".
func (s PCRSelection) String() string {
	if s.Bank == tpm2.TPMAlgSHA256 {
		return s.Numbers()
	}
	return s.Numbers() + " (" + BankName(s.Bank) + ")"
}

// Numbers is "7" or "0-3,7".
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

// Has reports whether a PCR is among them.
func (s PCRSelection) Has(pcr int) bool { return pcr < maxPCRs && s.PCRs>>pcr&1 != 0 }

// indices are the PCRs, one by one.
func (s PCRSelection) indices() []int {
	var list []int
	for pcr := range maxPCRs {
		if s.Has(pcr) {
			list = append(list, pcr)
		}
	}
	return list
}

// bankNames are hash algorithms as people write them.
var bankNames = map[tpm2.TPMIAlgHash]string{
	tpm2.TPMAlgSHA1: "sha1", tpm2.TPMAlgSHA256: "sha256", tpm2.TPMAlgSHA384: "sha384", tpm2.TPMAlgSHA512: "sha512",
	0x12: "sm3-256", 0x27: "sha3-256", 0x28: "sha3-384", 0x29: "sha3-512",
}

// BankName is a PCR bank's name, or its number.
func BankName(bank tpm2.TPMIAlgHash) string {
	if name := bankNames[bank]; name != "" {
		return name
	}
	return fmt.Sprintf("%#04x", uint16(bank))
}

// BankNamed is the PCR bank of a name, 0 for none.
func BankNamed(name string) tpm2.TPMIAlgHash {
	for bank, n := range bankNames {
		if n == name {
			return bank
		}
	}
	return 0
}

// maxPCRs is how many PCRs a bank of PCRSelection has at most.
const maxPCRs = 32

// A pcrAssertion is TPM2_PolicyPCR.
//
// TPM 2.0 Library Part 3, section 23.7
type pcrAssertion struct {
	possible
	selection []PCRSelection
	list      []byte // TPML_PCR_SELECTION
	digest    []byte // empty: the values that the PCRs have, whichever
}

// parsePCR reads both forms there are. A count of banks and the size of a digest
// cannot be mistaken for each other.
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
		return nil, fmt.Errorf("a digest of %d bytes behind the PCRs, and the key's have %d", len(rest), size)
	}
	return &pcrAssertion{selection: selection, list: body[:len(body)-size], digest: rest}, nil
}

// readPCRs reads a TPML_PCR_SELECTION.
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
			return nil, nil, errors.New("its list of PCRs ends too early, or has more PCRs than TPMs do")
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
		return opaque{}.extend(d)
	}
	return d.extend(tpm2.TPMCCPolicyPCR, a.list, a.digest)
}

func (a *pcrAssertion) run(r *runner) error {
	body := binary.BigEndian.AppendUint16(nil, uint16(len(a.digest)))
	body = append(append(body, a.digest...), a.list...)
	err := r.send(tpm2.TPMCCPolicyPCR, body)
	if err == nil && len(a.digest) == 0 {
		r.asIs += " with PCRs " + a.pcrs() + " as they are now"
	}
	if !says(err, tpm2.TPMRCValue, tpm2.TPMRCPCR, tpm2.TPMRCHash) {
		return refused(err, "the TPM refuses TPM2_PolicyPCR")
	}
	if missing := a.missingBank(r.tpm); missing != 0 {
		return unmet(err, "the TPM has no active PCRs of bank %s", BankName(missing))
	}
	return unmet(err, "%s", a.differs())
}

// differs says which PCRs are not as they were; a digest of several does not tell
// which of them.
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

// missingBank is a bank that is selected from and that the TPM has not, 0 for none.
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

// Banks are the banks of a TPM that have PCRs, in the TPM's order, each with those it
// has.
//
// TPM 2.0 Library Part 3, section 30.2 (TPM2_GetCapability), TPM_CAP_PCRS
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

// PCRs is TPM2_PolicyPCR as key files have it, for PCRs as they are now; the digest is by
// the hash alg. read gives the values of PCRs of one bank, as a *tpm20.Conn's PCRRead does.
// The list is for 24 PCRs a bank, as many as every TPM has.
func PCRs(alg tpm2.TPMIAlgHash, selection []PCRSelection, read func(bank tpm2.TPMIAlgHash, pcrs []int) (map[int][]byte, error)) (blob.PolicyCommand, error) {
	hash, err := hashOf(alg)
	if err != nil {
		return blob.PolicyCommand{}, err
	}
	body := binary.BigEndian.AppendUint32(nil, uint32(len(selection)))
	var inOrder [][]byte
	for _, s := range selection {
		body = binary.BigEndian.AppendUint16(body, uint16(s.Bank))
		body = append(body, 3, byte(s.PCRs), byte(s.PCRs>>8), byte(s.PCRs>>16))
		pcrs := s.indices()
		values, err := read(s.Bank, pcrs)
		if err != nil {
			return blob.PolicyCommand{}, err
		}
		for _, pcr := range pcrs {
			inOrder = append(inOrder, values[pcr])
		}
	}
	return blob.PolicyCommand{Code: uint32(tpm2.TPMCCPolicyPCR), Policy: append(body, sum(hash, inOrder...)...)}, nil
}
