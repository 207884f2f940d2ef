package tpmkey_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"maclef/internal/tpm12"
	"maclef/internal/tpmtest"
)

// A faultClass is what faults have in common.
type faultClass string

const (
	classCut     faultClass = "cut"
	classGarbled faultClass = "garbled answer"
	classSilent  faultClass = "silence"
	classCode    faultClass = "code"
	classOften   faultClass = "repeated code"
	classFlip    faultClass = "bit"
	classLate    faultClass = "late"
	classLost    faultClass = "lost state"
	classForged  faultClass = "forged code"
)

// A faultCase is one run of the steps, with one fault.
type faultCase struct {
	key   *faultKey
	plan  []planned
	index int
	class faultClass
	fault tpmtest.Fault
	code  uint32 // of a code
	at    int    // the byte of a flipped bit
}

// planned is a command of a run without faults.
type planned struct {
	step       step
	name       string
	is20       bool
	ordinal    uint32
	loaded     bool // its first handle is that of a loaded key or a session
	sessions   int
	authorized bool // by a secret
	proved     bool // its secret was right before
	size       int  // of the response
}

// planned is the command that the fault happens to.
func (c *faultCase) planned() planned {
	if c.index >= len(c.plan) {
		return planned{} // no fault happens
	}
	return c.plan[c.index]
}

// String is what -fault selects by.
func (c *faultCase) String() string {
	p := c.planned()
	return fmt.Sprintf("%s/%d %s %s/%s", c.key.name, c.index, p.step, p.name, c.fault.Name)
}

// inDoubt reports whether the client cannot know what became of the first use of
// a secret.
func (c *faultCase) inDoubt() bool {
	p := c.planned()
	return p.authorized && !p.proved && c.class != classCode && c.class != classOften
}

// planOf runs the steps without a fault, and returns the commands they took.
func planOf(t *testing.T, p *tpmtest.Proxy, k *faultKey) []planned {
	t.Helper()
	planOnce(p, k) // for what a TPM wants in the beginning
	f := planOnce(p, k)
	var plan []planned
	proved := map[bool]bool{}
	for i, e := range f.exchanges {
		c := planned{name: e.Name(), is20: strings.HasPrefix(e.Name(), "TPM2_"), ordinal: e.Ordinal, size: len(e.Response), sessions: len(e.Sessions())}
		if len(e.Command) >= 14 {
			c.loaded = slices.Contains([]byte{2, 3, 0x80}, e.Command[10])
		}
		for _, r := range f.results {
			if i >= r.first && !r.skipped {
				c.step = r.step
			}
		}
		var parents bool
		if parents, c.authorized = k.secretIn(e); c.authorized {
			c.proved = proved[parents]
			proved[parents] = true
		}
		plan = append(plan, c)
	}
	for _, r := range f.results {
		if k.wrong == nil && (r.err != nil || r.wrong != nil || r.skipped) || !r.right(k) {
			t.Fatalf("%s: %s without a fault: %v, %v", k.name, r.step, r.err, r.wrong)
		}
	}
	return plan
}

// vendorCode is one that only a maker knows: TPM_VENDOR_ERROR, TPM Main Part 2,
// section 16.
const vendorCode = 0x400 | 0x63

// telling are the codes that are tried with wrong secrets: those that a client
// may be tempted to answer with another try.
var telling = map[uint32]bool{
	0x01: true, 0x03: true, 0x06: true, 0x09: true, 0x0c: true, 0x11: true, 0x15: true, 0x1c: true, 0x1d: true,
	0x1e: true, 0x1f: true, 0x21: true, 0x22: true, 0x26: true, 0x800: true, 0x801: true, 0x802: true, 0x803: true,
}

// casesOf lists the cases of a key. Where bits, and some more for TPM 2.0, are random,
// their seed is printed.
func casesOf(k *faultKey, plan []planned, random *rand.Rand) []*faultCase {
	var all []*faultCase
	for i, p := range plan {
		var cases []*faultCase
		add := func(class faultClass, f tpmtest.Fault) *faultCase {
			c := &faultCase{key: k, plan: plan, index: i, class: class, fault: f}
			cases = append(cases, c)
			return c
		}
		for _, f := range cutFaults() {
			add(classCut, f)
		}
		for _, f := range garbledFaults(silence(p.step)) {
			class := classGarbled
			if strings.HasSuffix(f.Name, "silent") {
				class = classSilent
			}
			add(class, f)
		}
		for _, f := range k.tpm.lostStates() {
			add(classLost, f)
		}
		add(classLate, late(5*time.Second))
		for _, c := range k.codeFaults() {
			if k.tpm.is20 && !p.is20 {
				break // no TPM 2.0 says that to a command of another
			}
			if c.class == classForged && !(p.authorized && p.step.bounded()) {
				continue // nobody knows what was loaded then
			}
			add(c.class, c.fault).code = c.code
		}
		for b := range p.size {
			if p.ordinal == ordUnBind && !p.authorized && b >= 10 {
				break // nothing protects a plaintext that needs no secret
			}
			for _, bit := range someBits(random) {
				add(classFlip, tpmtest.Flipped(8*b+bit, silence(p.step))).at = b
			}
		}
		if k.tpm.is20 && *onlyFault == "" && !*allFaults {
			cases = thinned(cases, random)
		}
		if k.few > 0 && *onlyFault == "" && !*allFaults {
			random.Shuffle(len(cases), func(i, j int) { cases[i], cases[j] = cases[j], cases[i] })
			cases = cases[:min(len(cases), k.few)]
		}
		all = append(all, cases...)
	}
	return all
}

// someBits is one of a byte's bits, or all where a case is looked for.
func someBits(bits *rand.Rand) []int {
	if *onlyFault != "" {
		return []int{0, 1, 2, 3, 4, 5, 6, 7}
	}
	return []int{bits.IntN(8)}
}

// silence is how long a silent TPM is silent: much longer than a deadline.
func silence(s step) time.Duration {
	if s.bounded() {
		return 5 * opDeadline
	}
	return time.Second
}

// codeFaults are refusals.
func (k *faultKey) codeFaults() []faultCase {
	if k.tpm.is20 {
		return k.codeFaults20()
	}
	var all []faultCase
	add := func(class faultClass, code uint32, f tpmtest.Fault) {
		all = append(all, faultCase{class: class, code: code, fault: f})
	}
	for _, code := range append(tpm12.ResultCodes(), vendorCode) {
		if code != 0 && (k.wrong == nil || telling[code]) {
			add(classCode, code, tpmtest.Refused(code))
		}
	}
	for _, code := range []uint32{0x06, 0x07, 0x12} { // said before the session is looked at
		add(classCode, code, refusedAndKept(code))
	}
	for _, code := range []uint32{0x03, 0x21} { // TPM_BAD_PARAMETER, TPM_DECRYPT_ERROR
		add(classForged, code, forged(code))
	}
	const ordContinueSelfTest = 0x53
	add(classOften, 0x800, tpmtest.RefusedOften(0x800, 2))
	add(classOften, 0x802, tpmtest.RefusedOften(0x802, 2))
	add(classOften, 0x801, tpmtest.RefusedOften(0x801, 1000, ordContinueSelfTest))
	return all
}
