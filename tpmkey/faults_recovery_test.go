package tpmkey_test

import (
	"errors"
	"fmt"

	"github.com/google/go-tpm/tpm2"
)

// recovery is how well a case has to end.
type recovery int

const (
	mayFail       recovery = iota // with a clear error
	recoversLater                 // later steps work; the one that met the fault may fail
	recovers                      // every step gives the right result
)

// recoveries are how cases of a class have to end where mustRecover does not say otherwise.
var recoveries = map[faultClass]recovery{
	classCut:     recovers,
	classLost:    recovers,
	classOften:   recovers,
	classGarbled: recoversLater,
	classSilent:  recoversLater,
	classFlip:    recoversLater,
	classCode:    recoversLater,
	classLate:    recoversLater,
	classForged:  recoversLater,
}

// recoverableCodes are refusals after which the same can be tried again: the TPM was
// not ready, or has lost what can be given to it anew.
var recoverableCodes = map[uint32]bool{
	0x22:  true, // TPM_INVALID_AUTHHANDLE
	0x26:  true, // TPM_INVALID_POSTINIT
	0x800: true, // TPM_RETRY
	0x801: true, // TPM_NEEDS_SELFTEST
	0x802: true, // TPM_DOING_SELFTEST
}

// mustRecover says how well a case has to end.
func (c *faultCase) mustRecover() recovery {
	p := c.planned()
	switch {
	case c.class == classLate && !p.step.bounded():
		return recovers // there is no deadline
	case c.inDoubt() && c.class != classLost:
		return mayFail // nobody may use a secret again of which nobody knows whether it is wrong
	case c.inDoubt() && c.fault.Lost:
		return mayFail
	case p.step == stepOpen && c.class != classOften && (c.class != classLost || c.fault.Lost):
		return mayFail // perhaps that is no TPM
	case c.class == classLost && (p.ordinal == ordGetCap || p.ordinal == uint32(tpm2.TPMCCGetCapability)) && c.key.wrong != nil:
		return mayFail // the count of wrong secrets may be lost, too
	case p.step.first() && recoveries[c.class] == recoversLater && !c.recoverableCode():
		return mayFail // without a key there are no later steps
	case c.class == classCode && c.saysWrong():
		return mayFail // a wrong secret stays wrong
	case c.class == classFlip && p.ordinal == uint32(tpm2.TPMCCStartAuthSession) && c.key.counted:
		return mayFail // a session that is wrong from the beginning makes the secret look so
	case c.class == classFlip && p.ordinal == ordOIAP && (p.step == stepUnseal || p.step == stepUnsealAgain):
		return mayFail // likewise
	case p.step.makes() && (c.class == classCut || c.fault.Cut):
		return mayFail // it takes long, and is not done twice unasked
	case c.recoverableCode():
		return recovers
	}
	return recoveries[c.class]
}

func (c *faultCase) saysWrong() bool {
	if c.key.tpm.is20 {
		return saysWrong20(c.code)
	}
	return c.code == 0x01 || c.code == 0x1d
}

func (c *faultCase) recoverableCode() bool {
	p := c.planned()
	if c.class != classCode {
		return false
	}
	if c.key.tpm.is20 {
		return c.recoverableCode20()
	}
	loadedKey := p.ordinal == ordSign || p.ordinal == ordUnBind || p.ordinal == ordUnseal
	return recoverableCodes[c.code] && (c.code != 0x22 || p.authorized) || c.code == 0x0c && loadedKey
}

// recoverableCode20 is recoverableCode for a TPM 2.0.
func (c *faultCase) recoverableCode20() bool {
	p := c.planned()
	switch c.code {
	case 0x922, 0x908, 0x90a, 0x153, 0x920, rcInitialize: // TPM_RC_RETRY, YIELDED, TESTING, NEEDS_TEST, NV_RATE
		return true
	case 0x910, 0x18b: // TPM_RC_REFERENCE_H0, TPM_RC_HANDLE
		return p.loaded
	case 0x918: // TPM_RC_REFERENCE_S0
		return p.sessions > 0
	}
	return false
}

// unrecovered lists the steps that had to give the right result, and did not. With a
// wrong secret, saying so is the right result.
func (f *finding) unrecovered() (broken []violation) {
	need := f.c.mustRecover()
	if need == mayFail {
		return nil
	}
	for _, r := range f.results {
		after := r.first > f.c.index
		if need == recoversLater && !after || r.right(f.c.key) {
			continue
		}
		rule := "the step that meets the fault gives the right result"
		if after {
			rule = "later steps give the right result"
		}
		broken = append(broken, violation{rule, f.c, fmt.Sprintf("%s: %v", r.step, r.err)})
		break // what follows may follow from it
	}
	return broken
}

// right reports whether a step ended as it would have without a fault.
func (r stepResult) right(k *faultKey) bool {
	switch {
	case k.wrong == nil:
		return r.err == nil && r.wrong == nil && !r.skipped
	case r.skipped:
		return true // as the load has failed, rightly or not: that is told there
	case r.step.usesKey() || r.step == stepLoad && r.err != nil:
		return errors.Is(r.err, k.wrong)
	}
	return r.err == nil
}
