package policy

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"time"

	"github.com/google/go-tpm/tpm2"
	"golang.org/x/crypto/cryptobyte"
)

// A comparison has the operands of TPM2_PolicyNV or TPM2_PolicyCounterTimer.
type comparison struct {
	operand   []byte
	offset    uint16
	operation uint16 // TPM_EO
	tail      []byte // offset and operation, marshalled
}

// readComparison parses operandB, offset and operation. sized reports whether operandB has its
// size in front.
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
		return c, false, errors.New("it has an unknown operation")
	}
	return c, sized, nil
}

// text returns a text such as "= 0x2a". all and none are the texts for the operations on bits.
// TPM 2.0 Library Part 2, section 6.8 (TPM_EO).
func (c comparison) text(all, none string) string {
	return c.sign(all, none) + fmt.Sprintf(" 0x%x", c.operand)
}

func (c comparison) sign(all, none string) string {
	signs := []string{"=", "≠", "> (signed)", ">", "< (signed)", "<", "≥ (signed)", "≥", "≤ (signed)", "≤", all, none}
	return signs[c.operation]
}

// is returns the text for a sentence with "is not".
func (c comparison) is() string { return c.text(allBits, noBits) }

// allBits and noBits are the operations on bits in a sentence with "is not".
const allBits, noBits = "with all bits of", "without the bits of"

// An nvAssertion is TPM2_PolicyNV: a comparison with the contents of an NV index. TPM 2.0 Library
// Part 3, section 23.9 (TPM2_PolicyNV).
type nvAssertion struct {
	runtimeChecked
	unpredictable
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
		return nil, fmt.Errorf("%#08x is not an NV index", uint32(a.index))
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
	if hasCode(err, tpm2.TPMRCHandle) {
		return unmet(err, "there is not an NV index %#08x", uint32(a.index))
	}
	if err != nil {
		return err
	}
	if a.auth == a.index && counts {
		return unmet(nil, "it reads NV index %#08x with a secret, and the TPM counts wrong ones: this program does not try secrets that a key file asks for", uint32(a.index))
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
	case hasCode(err, tpm2.TPMRCPolicy):
		return unmet(err, "NV index %#08x is not %s", uint32(a.index), a.is())
	case hasCode(err, tpm2.TPMRCNVUninitialized, tpm2.TPMRCNVAuthorization, tpm2.TPMRCNVLocked, tpm2.TPMRCAuthFail, tpm2.TPMRCBadAuth):
		return unmet(err, "NV index %#08x cannot be read: %v", uint32(a.index), err)
	}
	return asUnmet(err, "NV index %#08x cannot be compared", uint32(a.index))
}

// A timerAssertion is TPM2_PolicyCounterTimer: a comparison with the TPM's clock and counters.
// TPM 2.0 Library Part 3, section 23.10 (TPM2_PolicyCounterTimer).
type timerAssertion struct {
	runtimeChecked
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
	if hasCode(err, tpm2.TPMRCPolicy) {
		return unmet(err, "the TPM's %s is not %s", cmp.Or(timeFields[a.offset][1], fmt.Sprintf("clock information at offset %d", a.offset)), a.text(allBits, noBits))
	}
	return asUnmet(err, "the TPM refuses TPM2_PolicyCounterTimer")
}

// text is that of the comparison, with a time in milliseconds or a count as a decimal number. The
// operations on bits, and on signed numbers, keep the hexadecimal one.
func (a *timerAssertion) text(all, none string) string {
	number := new(big.Int).SetBytes(a.operand)
	switch plain := []tpm2.TPMEO{tpm2.TPMEOEq, tpm2.TPMEONeq, tpm2.TPMEOUnsignedGT, tpm2.TPMEOUnsignedLT, tpm2.TPMEOUnsignedGE, tpm2.TPMEOUnsignedLE}; {
	case !slices.Contains(plain, tpm2.TPMEO(a.operation)):
	case (a.offset == 0 || a.offset == 8) && len(a.operand) == 8:
		return a.sign(all, none) + " " + msText(number.Uint64())
	case (a.offset == 16 || a.offset == 20) && len(a.operand) == 4, a.offset == 24 && len(a.operand) == 1:
		return fmt.Sprintf("%s %d", a.sign(all, none), number)
	}
	return a.comparison.text(all, none)
}

// msText writes milliseconds, and what they are in larger units.
func msText(ms uint64) string {
	const day = uint64(24 * time.Hour / time.Millisecond)
	rest := time.Duration(ms%day) * time.Millisecond
	switch {
	case ms < 1000:
		return fmt.Sprintf("%d ms", ms)
	case ms < day:
		return fmt.Sprintf("%d ms (%v)", ms, rest)
	}
	return fmt.Sprintf("%d ms (%d×24h and %v)", ms, ms/day, rest)
}

// timeFields are the fields of a TPMS_TIME_INFO by offset: name and description. TPM 2.0 Library
// Part 2, section 10.11.6 (TPMS_TIME_INFO).
var timeFields = map[uint16][2]string{
	0: {"time", "time since it was powered"}, 8: {"clock", "clock"}, 16: {"resetCount", "count of resets"},
	20: {"restartCount", "count of restarts"}, 24: {"safe", ""},
}
