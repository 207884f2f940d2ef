package tpm20

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/google/go-tpm/tpm2"
	"golang.org/x/crypto/cryptobyte"
)

// A timerTerm is TPM2_PolicyCounterTimer: the TPM's clock and counters compared with
// something.
type timerTerm struct {
	body, operand []byte
	tail          []byte // offset and operation
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
