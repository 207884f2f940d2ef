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

// codes20 returns result codes that a TPM 2.0 may return. Codes of format 1 come in four
// variants: about no part of the command, about its first handle, its first parameter and
// its first session. TPM 2.0 Library Part 2, section 6.6 (TPM_RC).
func codes20() []uint32 {
	const (
		format1   = 0x080
		parameter = 0x040
		session   = 0x800
		first     = 0x100
		warning   = 0x900
		manager   = 0x000B0000 // layer of the kernel's or another resource manager
	)
	codes := []uint32{0x01E} // TPM_RC_BAD_TAG
	for _, n := range []uint32{
		0x00, 0x01, 0x03, 0x0B, 0x19, 0x20, 0x21, 0x24, 0x25, 0x26, 0x27, 0x28, 0x2D, 0x2E, 0x2F, 0x30, 0x31, 0x42, 0x43, 0x44,
		0x45, 0x46, 0x47, 0x48, 0x49, 0x4A, 0x4B, 0x4C, 0x50, 0x51, 0x52, 0x53, 0x54, 0x55, 0x7F,
	} {
		codes = append(codes, 0x100|n)
	}
	for _, n := range []uint32{
		0x01, 0x02, 0x03, 0x04, 0x05, 0x07, 0x08, 0x09, 0x0A, 0x0B, 0x0C, 0x0D, 0x0E, 0x0F, 0x10, 0x12, 0x15, 0x16, 0x17, 0x18,
		0x1A, 0x1B, 0x1C, 0x1D, 0x1F, 0x20, 0x21, 0x22, 0x23, 0x24, 0x25, 0x26, 0x27,
	} {
		codes = append(codes, format1|n, format1|first|n, format1|parameter|first|n, format1|session|first|n)
	}
	for _, n := range []uint32{
		0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x07, 0x08, 0x09, 0x0A, 0x10, 0x11, 0x12, 0x18, 0x19, 0x1A, 0x20, 0x21, 0x22, 0x23, 0x3F,
	} {
		codes = append(codes, warning|n)
	}
	const vendor = 0x400
	return append(codes, vendor|0x63, manager|0x143, manager|0x902, manager|0x1C4)
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
	for _, code := range codes20() {
		if _, telling := telling20[code]; k.wrong == nil || telling {
			add(classCode, code, tpmtest.Refused(code))
		}
	}
	for code := range telling20 {
		if !slices.Contains(codes20(), code) {
			panic(code)
		}
	}
	for _, code := range []uint32{0x1c4, 0x1d5} { // TPM_RC_VALUE, TPM_RC_SIZE: about the first parameter
		add(classForged, code, forged(code))
	}
	const selfTest = 0x143
	add(classOften, 0x922, tpmtest.RefusedOften(0x922, 2))
	add(classOften, 0x90a, tpmtest.RefusedOften(0x90a, 2))
	add(classOften, 0x153, tpmtest.RefusedOften(0x153, 1000, selfTest))
	return all
}

// enough20 is how many cases of a class are tried for each command of a TPM 2.0, because there
// are many. The seed decides which.
var enough20 = map[faultClass]int{
	classGarbled: 3,
	classLost:    3,
	classOften:   1,
	classSilent:  1,
	classCode:    3, // besides the most telling
	classFlip:    4,
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
