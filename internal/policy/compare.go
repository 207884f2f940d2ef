package policy

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/google/go-tpm/tpm2"
	"golang.org/x/crypto/cryptobyte"
)

// A comparison is what TPM2_PolicyNV and TPM2_PolicyCounterTimer compare with.
type comparison struct {
	operand   []byte
	offset    uint16
	operation uint16 // TPM_EO
	tail      []byte // offset and operation as they are sent
}

// readComparison reads operandB, offset and operation, and whether operandB has its size.
func readComparison(body []byte) (c comparison, sized bool, err error) {
	const tail = 4 // offset and operation
	if len(body) <= tail {
		return c, false, errors.New("it has no operand, offset and operation")
	}
	c.operand, c.tail = body[:len(body)-tail], body[len(body)-tail:]
	c.offset, c.operation = binary.BigEndian.Uint16(c.tail), binary.BigEndian.Uint16(c.tail[2:])
	s := cryptobyte.String(c.operand)
	var inner cryptobyte.String
	if s.ReadUint16LengthPrefixed(&inner) && s.Empty() && len(inner) > 0 {
		c.operand, sized = inner, true
	}
	if c.operation > uint16(tpm2.TPMEOBitClear) {
		return c, false, errors.New("it has an operation that no TPM knows")
	}
	return c, sized, nil
}

// text is such as "= 0x2a"; all and none are words for the operations on bits.
//
// TPM 2.0 Library Part 2, section 6.8 (TPM_EO)
func (c comparison) text(all, none string) string {
	signs := []string{"=", "≠", "> (signed)", ">", "< (signed)", "<", "≥ (signed)", "≥", "≤ (signed)", "≤", all, none}
	return fmt.Sprintf("%s 0x%x", signs[c.operation], c.operand)
}

// is goes behind "is not".
func (c comparison) is() string { return c.text("with all bits of", "without the bits of") }

// An nvAssertion is TPM2_PolicyNV: what is in an NV index compared with something.
//
// TPM 2.0 Library Part 3, section 23.9
type nvAssertion struct {
	possible
	opaque
	auth, index tpm2.TPMHandle
	comparison
}

func parseNV(body []byte) (assertion, error) {
	const handles = 8
	if len(body) < handles {
		return nil, errors.New("it does not begin with two handles")
	}
	c, sized, err := readComparison(body[handles:])
	switch a := (&nvAssertion{auth: handleAt(body), index: handleAt(body[4:]), comparison: c}); {
	case err != nil:
		return nil, err
	case !sized:
		return nil, errors.New("its operand has no size")
	case a.index>>24 != kindNV:
		return nil, fmt.Errorf("%#08x is no NV index", uint32(a.index))
	case a.auth != a.index && a.auth != tpm2.TPMRHOwner:
		return nil, fmt.Errorf("%#08x does not authorize reading an NV index here", uint32(a.auth))
	default:
		return a, nil
	}
}

func (a *nvAssertion) run(r *runner) error {
	if err := r.step(); err != nil {
		return err
	}
	name, counts, err := r.tpm.Entity(a.index)
	if says(err, tpm2.TPMRCHandle) {
		return unmet(err, "there is no NV index %#08x", uint32(a.index))
	}
	if err != nil {
		return err
	}
	if a.auth == a.index && counts {
		return unmet(nil, "it reads NV index %#08x by a secret of which the TPM counts wrong ones: this program does not try it for a key file", uint32(a.index))
	}
	auth := tpm2.AuthHandle{Handle: a.auth, Name: tpm2.HandleName(a.auth), Auth: tpm2.PasswordAuth(nil)}
	if a.auth == a.index {
		auth.Name.Buffer = name
	}
	session, err := r.session.Extend()
	if err != nil {
		return err
	}
	_, err = do(r.tpm, tpm2.PolicyNV{
		AuthHandle: auth, NVIndex: tpm2.NamedHandle{Handle: a.index, Name: tpm2.TPM2BName{Buffer: name}},
		PolicySession: session, OperandB: tpm2.TPM2BOperand{Buffer: a.operand},
		Offset: a.offset, Operation: tpm2.TPMEO(a.operation),
	})
	switch {
	case says(err, tpm2.TPMRCPolicy):
		return unmet(err, "NV index %#08x is not %s", uint32(a.index), a.is())
	case says(err, tpm2.TPMRCNVUninitialized, tpm2.TPMRCNVAuthorization, tpm2.TPMRCNVLocked, tpm2.TPMRCAuthFail, tpm2.TPMRCBadAuth):
		return unmet(err, "NV index %#08x cannot be read: %v", uint32(a.index), err)
	}
	return refused(err, "NV index %#08x cannot be compared", uint32(a.index))
}

// A timerAssertion is TPM2_PolicyCounterTimer: the TPM's clock and counters compared with
// something.
//
// TPM 2.0 Library Part 3, section 23.10
type timerAssertion struct {
	possible
	comparison
}

func parseTimer(body []byte) (assertion, error) {
	c, _, err := readComparison(body)
	if err != nil {
		return nil, err
	}
	return &timerAssertion{comparison: c}, nil
}

func (a *timerAssertion) extend(d digest) digest {
	return d.extend(tpm2.TPMCCPolicyCounterTimer, sum(d.hash, a.operand, a.tail))
}

func (a *timerAssertion) run(r *runner) error {
	body := binary.BigEndian.AppendUint16(nil, uint16(len(a.operand)))
	err := r.send(tpm2.TPMCCPolicyCounterTimer, append(append(body, a.operand...), a.tail...))
	if says(err, tpm2.TPMRCPolicy) {
		return unmet(err, "the TPM's %s is not %s", cmp.Or(timeFields[a.offset][1], fmt.Sprintf("clock information at offset %d", a.offset)), a.is())
	}
	return refused(err, "the TPM refuses TPM2_PolicyCounterTimer")
}

// timeFields are those of a TPMS_TIME_INFO by their offset: their names, and words.
//
// TPM 2.0 Library Part 2, section 10.11.6 (TPMS_TIME_INFO)
var timeFields = map[uint16][2]string{
	0: {"time", "time since it was powered"}, 8: {"clock", "clock"}, 16: {"resetCount", "count of resets"},
	20: {"restartCount", "count of restarts"}, 24: {"safe", ""},
}
