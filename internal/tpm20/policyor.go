package tpm20

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/google/go-tpm/tpm2"
	"golang.org/x/crypto/cryptobyte"
)

// An orTerm is TPM2_PolicyOR: the digest before it must be one of a list's.
//
// TPM 2.0 Library Part 3, section 23.6
type orTerm struct {
	body    []byte // TPML_DIGEST
	digests [][]byte
}

// A TPM takes two to eight branches.
const (
	minOr = 2
	maxOr = 8
)

func newOrTerm(body []byte, size int) (*orTerm, error) {
	s := cryptobyte.String(body)
	var count uint32
	if !s.ReadUint32(&count) || count < minOr || count > maxOr {
		return nil, fmt.Errorf("it is not a list of %d to %d digests", minOr, maxOr)
	}
	t := &orTerm{body: body}
	for range count {
		var digest cryptobyte.String
		if !s.ReadUint16LengthPrefixed(&digest) || len(digest) != size {
			return nil, fmt.Errorf("it has a digest that is not of %d bytes", size)
		}
		t.digests = append(t.digests, digest)
	}
	if !s.Empty() {
		return nil, fmt.Errorf("%d bytes behind its digests", len(s))
	}
	return t, nil
}

func (t *orTerm) extend(d policyDigest) policyDigest {
	return d.reset().extend(tpm2.TPMCCPolicyOR, t.digests...)
}

func (t *orTerm) check(d policyDigest) error {
	if !d.known() {
		return nil
	}
	for _, digest := range t.digests {
		if bytes.Equal(digest, d.value) {
			return nil
		}
	}
	return unmet(nil, "what comes before its TPM2_PolicyOR is none of the %d branches there", len(t.digests))
}

func (t *orTerm) run(r *policyRun) error {
	err := r.send(tpm2.TPMCCPolicyOR, t.body)
	if says(err, tpm2.TPMRCValue) {
		return unmet(err, "none of the %d branches of its TPM2_PolicyOR is met%s", len(t.digests), r.asIs)
	}
	return r.explain(err, "the TPM refuses TPM2_PolicyOR")
}

// newTimerTerm reads TPM2_PolicyCounterTimer, whose operand has its size or has not.
//
// TPM 2.0 Library Part 3, section 23.10
func newTimerTerm(body []byte) (term, error) {
	operand, tail, sized, err := readComparison(body)
	if err != nil {
		return nil, err
	}
	if !sized {
		body = binary.BigEndian.AppendUint16(nil, uint16(len(operand)))
		body = append(append(body, operand...), tail...)
	}
	return &timerTerm{body, operand, tail}, nil
}

// readComparison reads operandB, offset and operation.
func readComparison(body []byte) (operand, tail []byte, sized bool, err error) {
	const tailSize = 4 // offset and operation
	if len(body) <= tailSize {
		return nil, nil, false, errors.New("it has no operand, offset and operation")
	}
	operand, tail = body[:len(body)-tailSize], body[len(body)-tailSize:]
	s := cryptobyte.String(operand)
	var inner cryptobyte.String
	if s.ReadUint16LengthPrefixed(&inner) && s.Empty() && len(inner) > 0 {
		operand, sized = inner, true
	}
	if binary.BigEndian.Uint16(tail[2:]) > uint16(tpm2.TPMEOBitClear) {
		return nil, nil, false, errors.New("it has an operation that no TPM knows")
	}
	return operand, tail, sized, nil
}

// A timerTerm is TPM2_PolicyCounterTimer: the TPM's clock and counters compared with
// something.
type timerTerm struct {
	body, operand []byte
	tail          []byte // offset and operation
}

func (t *timerTerm) extend(d policyDigest) policyDigest {
	return d.extend(tpm2.TPMCCPolicyCounterTimer, digestOf(d.hash, t.operand, t.tail))
}

func (t *timerTerm) check(policyDigest) error { return nil }

func (t *timerTerm) run(r *policyRun) error {
	err := r.send(tpm2.TPMCCPolicyCounterTimer, t.body)
	if says(err, tpm2.TPMRCPolicy) {
		return unmet(err, "the TPM's %s is not %s", timeField(t.tail), comparison(t.operand, t.tail))
	}
	return r.explain(err, "the TPM refuses TPM2_PolicyCounterTimer")
}

// timeField says what of a TPMS_TIME_INFO an offset means. TPM 2.0 Library Part 2,
// section 10.11.6 (TPMS_TIME_INFO).
func timeField(tail []byte) string {
	switch offset := binary.BigEndian.Uint16(tail); offset {
	case 0:
		return "time since it was powered"
	case 8:
		return "clock"
	case 16:
		return "count of resets"
	case 20:
		return "count of restarts"
	default:
		return fmt.Sprintf("clock information at offset %d", offset)
	}
}

// comparison is such as "= 2a". TPM 2.0 Library Part 2, section 6.8 (TPM_EO).
func comparison(operand, tail []byte) string {
	signs := []string{"=", "≠", "> (signed)", ">", "< (signed)", "<", "≥ (signed)", "≥", "≤ (signed)", "≤", "with all bits of", "without the bits of"}
	return fmt.Sprintf("%s 0x%x", signs[binary.BigEndian.Uint16(tail[2:])], operand)
}
