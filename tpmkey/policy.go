package tpmkey

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/google/go-tpm/tpm2"

	"maclef/internal/tpm20"
)

// ErrPolicy: the policy of a key, or of sealed data, is not met, such as when a PCR
// differs. Nothing was tried that the TPM counts.
var ErrPolicy = errors.New("the policy is not met")

// A Policy says what must hold for a key, or sealed data, of a TPM 2.0 to be used:
// that PCRs have the values they have when it is made. One with a secret needs the
// secret besides. Read it with [ParsePolicy]; a Policy never changes.
type Policy struct {
	pcrs []tpm20.PCRSelection // in the order of the text
}

// maxPolicyPCR is the highest PCR that every TPM 2.0 of a PC has.
const maxPolicyPCR = 23

// ParsePolicy reads a policy such as "pcr:sha256:7", "pcr:0-7,11" or
// "pcr:sha256:7,11+sha1:4": PCRs with "," or "+" between them, each after its bank, or
// that of the one before. The first one's is sha256 if it has none.
func ParsePolicy(text string) (*Policy, error) {
	p, err := parsePolicy(text)
	if err != nil {
		return nil, fmt.Errorf("policy %q: %w; it is written such as pcr:sha256:7,11", text, err)
	}
	return p, nil
}

func parsePolicy(text string) (*Policy, error) {
	kind, list, found := strings.Cut(text, ":")
	switch {
	case kind == "authvalue" || kind == "password":
		return nil, errors.New("a key with a secret needs that in any case")
	case kind != "pcr" || !found:
		return nil, errors.New(`it does not begin with "pcr:"`)
	}
	p, bank := &Policy{}, tpm2.TPMIAlgHash(tpm2.TPMAlgSHA256)
	for _, item := range strings.Split(strings.ReplaceAll(list, "+", ","), ",") {
		item = strings.TrimSpace(item)
		if name, pcrs, named := strings.Cut(item, ":"); named {
			if bank = tpm20.BankNamed(strings.ToLower(name)); bank == 0 {
				return nil, fmt.Errorf("%q is no bank of PCRs, such as sha256 is", name)
			}
			item = pcrs
		}
		from, to, err := pcrRange(item)
		if err != nil {
			return nil, err
		}
		p.add(bank, from, to)
	}
	return p, nil
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

func (p *Policy) add(bank tpm2.TPMIAlgHash, from, to int) {
	bits := uint32(2)<<to - uint32(1)<<from
	for i := range p.pcrs {
		if p.pcrs[i].Bank == bank {
			p.pcrs[i].PCRs |= bits
			return
		}
	}
	p.pcrs = append(p.pcrs, tpm20.PCRSelection{Bank: bank, PCRs: bits})
}

// String is the policy as ParsePolicy reads it.
func (p *Policy) String() string {
	if p == nil {
		return ""
	}
	var banks []string
	for _, s := range p.pcrs {
		banks = append(banks, tpm20.BankName(s.Bank)+":"+s.Numbers())
	}
	return "pcr:" + strings.Join(banks, "+")
}
