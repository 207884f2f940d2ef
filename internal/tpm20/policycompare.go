package tpm20

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/google/go-tpm/tpm2"
	"golang.org/x/crypto/cryptobyte"
)

// An nvTerm is TPM2_PolicyNV: what is in an NV index compared with something.
//
// TPM 2.0 Library Part 3, section 23.9
type nvTerm struct {
	auth, index   tpm2.TPMHandle
	operand, tail []byte
}

func newNVTerm(body []byte) (*nvTerm, error) {
	const handles = 8
	if len(body) < handles {
		return nil, errors.New("it does not begin with two handles")
	}
	operand, tail, sized, err := readComparison(body[handles:])
	switch t := (&nvTerm{handleAt(body, 0), handleAt(body, 4), operand, tail}); {
	case err != nil:
		return nil, err
	case !sized:
		return nil, errors.New("its operand has no size")
	case t.index>>24 != nvFirst>>24:
		return nil, fmt.Errorf("%#08x is no NV index", uint32(t.index))
	case t.auth != t.index && t.auth != tpm2.TPMRHOwner:
		return nil, fmt.Errorf("%#08x does not authorize reading an NV index here", uint32(t.auth))
	default:
		return t, nil
	}
}

func (t *nvTerm) extend(d policyDigest) policyDigest { return d.unknown() }

func (t *nvTerm) check(policyDigest) error { return nil }

func (t *nvTerm) run(r *policyRun) error {
	if err := r.step(); err != nil {
		return err
	}
	name, err := r.conn.nvName(t.index)
	if says(err, tpm2.TPMRCHandle) {
		return unmet(err, "there is no NV index %#08x", uint32(t.index))
	}
	if err != nil {
		return err
	}
	auth := tpm2.AuthHandle{Handle: t.auth, Auth: tpm2.PasswordAuth(nil)}
	if t.auth == t.index {
		if counts, err := r.conn.countsTries(t.index); err != nil {
			return err
		} else if counts {
			return unmet(nil, "it reads NV index %#08x by a secret of which the TPM counts wrong ones: this program does not try it for a key file", uint32(t.index))
		}
		auth.Name.Buffer = name
	} else {
		auth.Name = tpm2.HandleName(t.auth)
	}
	r.session.ran = true
	_, err = Run(r.conn, tpm2.PolicyNV{
		AuthHandle: auth, NVIndex: tpm2.NamedHandle{Handle: t.index, Name: tpm2.TPM2BName{Buffer: name}},
		PolicySession: r.session.handle, OperandB: tpm2.TPM2BOperand{Buffer: t.operand},
		Offset: binary.BigEndian.Uint16(t.tail), Operation: tpm2.TPMEO(binary.BigEndian.Uint16(t.tail[2:])),
	})
	switch {
	case says(err, tpm2.TPMRCPolicy):
		return unmet(err, "NV index %#08x is not %s", uint32(t.index), comparison(t.operand, t.tail))
	case says(err, tpm2.TPMRCNVUninitialized, tpm2.TPMRCNVAuthorization, tpm2.TPMRCNVLocked, tpm2.TPMRCAuthFail, tpm2.TPMRCBadAuth):
		return unmet(err, "NV index %#08x cannot be read: %v", uint32(t.index), err)
	}
	return r.explain(err, "NV index %#08x cannot be compared", uint32(t.index))
}

// nvName is TPM 2.0 Library Part 3, section 31.6 (TPM2_NV_ReadPublic).
func (c *Conn) nvName(h tpm2.TPMHandle) ([]byte, error) {
	rsp, err := Run(c, tpm2.NVReadPublic{NVIndex: h})
	if err != nil {
		return nil, err
	}
	return rsp.NVName.Buffer, nil
}

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
