package tpmkey_test

import (
	"math/rand/v2"
	"slices"

	"maclef/internal/tpmtest"
)

func (f *faultTPM) lostStates() []tpmtest.Fault {
	if f.is20 {
		return tpmtest.LostStates20()
	}
	return tpmtest.LostStates()
}

// telling20 are the codes that are tried with wrong secrets: those that something is
// done about, and those that a client may be tempted to answer with another try. Those
// that are true are tried with every command.
var telling20 = map[uint32]bool{
	0x01e: false, 0x100: true, 0x101: false, 0x128: false, 0x143: false, 0x153: false, 0x18b: true, 0x98b: false, 0x98e: true,
	0x98f: false, 0x99d: false, 0x9a2: true, 0x984: false, 0x1c4: false, 0x1df: false, 0x901: false, 0x902: true, 0x903: true,
	0x905: false, 0x908: false, 0x90a: false, 0x910: true, 0x918: true, 0x920: false, 0x921: true, 0x922: true,
}

// codeFaults20 is codeFaults for a TPM 2.0.
func (k *faultKey) codeFaults20() []faultCase {
	var all []faultCase
	add := func(class faultClass, code uint32, f tpmtest.Fault) {
		all = append(all, faultCase{class: class, code: code, fault: f})
	}
	for _, code := range tpmtest.Codes20() {
		if _, telling := telling20[code]; k.wrong == nil || telling {
			add(classCode, code, tpmtest.Refused(code))
		}
	}
	for code := range telling20 {
		if !slices.Contains(tpmtest.Codes20(), code) {
			panic(code)
		}
	}
	const selfTest = 0x143
	add(classOften, 0x922, tpmtest.RefusedOften(0x922, 2))
	add(classOften, 0x90a, tpmtest.RefusedOften(0x90a, 2))
	add(classOften, 0x153, tpmtest.RefusedOften(0x153, 1000, selfTest))
	return all
}

// Of these classes so many cases are enough for a command of a TPM 2.0, of which there
// are many; the seed decides which.
var enough20 = map[faultClass]int{
	classGarbled: 5,
	classLost:    5,
	classOften:   1,
	classSilent:  1,
	classCode:    5, // besides the most telling
	classFlip:    8,
}

// thinned leaves out cases of one command.
func thinned(cases []*faultCase, random *rand.Rand) []*faultCase {
	var all []*faultCase
	taken := map[faultClass]int{}
	for _, i := range random.Perm(len(cases)) {
		c := cases[i]
		enough, some := enough20[c.class]
		switch {
		case c.key.later && c.planned().step == stepOpen:
			continue
		case c.class == classLate && !c.planned().step.bounded() && random.IntN(4) > 0:
			continue
		case some && (c.class != classCode || !telling20[c.code]):
			if taken[c.class]++; taken[c.class] > enough {
				continue
			}
		}
		all = append(all, c)
	}
	return all
}
