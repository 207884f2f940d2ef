// Package policy knows what the policies of TPM 2.0 objects say: what must hold for an
// object to be used. TPM 2.0 Library Part 1, section 19.7 (Enhanced Authorization).
package policy

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/google/go-tpm/tpm2"
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
