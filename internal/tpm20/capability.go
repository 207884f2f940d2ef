package tpm20

import (
	"fmt"

	"github.com/google/go-tpm/tpm2"
)

// maxReplies limits how many replies a list may take. The longest list, of commands, takes one or
// two.
const maxReplies = 64

// list reads a list of capabilities from first up to, not including, end. each processes one
// reply and returns the numbers in it. TPM 2.0 Library Part 3, section 30.2 (TPM2_GetCapability).
func (c *Conn) list(of tpm2.TPMCap, first, end uint32, each func(*tpm2.TPMUCapabilities) (numbers []uint32, err error)) error {
	next := first
	for range maxReplies {
		var numbers []uint32
		rsp, err := runChecked(c, tpm2.GetCapability{Capability: of, Property: next, PropertyCount: min(end-next, 0xffff)},
			func(rsp *tpm2.GetCapabilityResponse) (err error) {
				if rsp.CapabilityData.Capability != of {
					return fmt.Errorf("capability %#x, not %#x", rsp.CapabilityData.Capability, of)
				}
				if numbers, err = each(&rsp.CapabilityData.Data); err != nil {
					return err
				}
				return checkAscending(numbers, next)
			})
		if err != nil || !rsp.MoreData || len(numbers) == 0 {
			return err
		}
		if next = numbers[len(numbers)-1] + 1; next >= end || next == 0 {
			return nil
		}
	}
	return c.unanswered(false, malformed(tpm2.TPMCCGetCapability, "no end after %d replies", maxReplies))
}

// checkAscending refuses numbers that are not ascending from next on, because such a list might
// never end.
func checkAscending(numbers []uint32, next uint32) error {
	for _, n := range numbers {
		if n < next {
			return fmt.Errorf("%#x, expected %#x or more", n, next)
		}
		next = n + 1
	}
	return nil
}

// Properties returns the group of 256 properties that begins with first.
func (c *Conn) Properties(first tpm2.TPMPT) (map[tpm2.TPMPT]uint32, error) {
	const group = 0x100
	all := map[tpm2.TPMPT]uint32{}
	end := uint32(first) + group
	err := c.list(tpm2.TPMCapTPMProperties, uint32(first), end, func(data *tpm2.TPMUCapabilities) ([]uint32, error) {
		list, err := data.TPMProperties()
		if err != nil {
			return nil, err
		}
		var numbers []uint32
		for _, p := range list.TPMProperty {
			numbers = append(numbers, uint32(p.Property))
			if uint32(p.Property) < end {
				all[p.Property] = p.Value
			}
		}
		return numbers, nil
	})
	return all, err
}

// Handles returns the handles of one kind that are in use, including those of other programs.
// first is 0x80000000 for loaded objects, 0x81000000 for persistent objects, 0x02000000 for
// loaded sessions (HMAC and policy), 0x03000000 for saved sessions.
func (c *Conn) Handles(first tpm2.TPMHandle) ([]tpm2.TPMHandle, error) {
	const index = 0xffffff
	var handles []tpm2.TPMHandle
	err := c.list(tpm2.TPMCapHandles, uint32(first), uint32(first)|index, func(data *tpm2.TPMUCapabilities) ([]uint32, error) {
		list, err := data.Handles()
		if err != nil {
			return nil, err
		}
		var numbers []uint32
		for _, h := range list.Handle {
			if h>>24 != first>>24 && !(isSession(h) && isSession(first)) {
				return nil, fmt.Errorf("handle %#08x, expected %#08x or more", uint32(h), uint32(first))
			}
			handles = append(handles, h)
			numbers = append(numbers, uint32(first)&^index|uint32(h)&index)
		}
		return numbers, nil
	})
	return handles, err
}

func isSession(h tpm2.TPMHandle) bool { return h>>24 == hmacSession || h>>24 == policySession }

// Algorithms returns the TPM's algorithms and their attributes.
func (c *Conn) Algorithms() (map[tpm2.TPMAlgID]tpm2.TPMAAlgorithm, error) {
	all := map[tpm2.TPMAlgID]tpm2.TPMAAlgorithm{}
	err := c.list(tpm2.TPMCapAlgs, 0, 0x10000, func(data *tpm2.TPMUCapabilities) ([]uint32, error) {
		list, err := data.Algorithms()
		if err != nil {
			return nil, err
		}
		var numbers []uint32
		for _, a := range list.AlgProperties {
			all[a.Alg] = a.AlgProperties
			numbers = append(numbers, uint32(a.Alg))
		}
		return numbers, nil
	})
	return all, err
}

// Curves returns the TPM's elliptic curves.
func (c *Conn) Curves() ([]tpm2.TPMECCCurve, error) {
	var all []tpm2.TPMECCCurve
	err := c.list(tpm2.TPMCapECCCurves, 0, 0x10000, func(data *tpm2.TPMUCapabilities) ([]uint32, error) {
		list, err := data.ECCCurves()
		if err != nil {
			return nil, err
		}
		var numbers []uint32
		for _, id := range list.ECCCurves {
			all = append(all, id)
			numbers = append(numbers, uint32(id))
		}
		return numbers, nil
	})
	return all, err
}

// Commands returns the command codes that the TPM implements.
func (c *Conn) Commands() (map[tpm2.TPMCC]bool, error) {
	const vendor = 1 << 29
	all := map[tpm2.TPMCC]bool{}
	err := c.list(tpm2.TPMCapCommands, uint32(tpm2.TPMCCNVUndefineSpaceSpecial), vendor<<1, func(data *tpm2.TPMUCapabilities) ([]uint32, error) {
		list, err := data.Command()
		if err != nil {
			return nil, err
		}
		var numbers []uint32
		for _, a := range list.CommandAttributes {
			n := uint32(a.CommandIndex)
			if a.V {
				n |= vendor
			}
			all[tpm2.TPMCC(n)] = true
			numbers = append(numbers, n)
		}
		return numbers, nil
	})
	return all, err
}

// TestParms returns nil if the TPM supports a key with these parameters. TPM 2.0 Library Part 3,
// section 30.3 (TPM2_TestParms).
func (c *Conn) TestParms(parms tpm2.TPMTPublicParms) error {
	_, err := Run(c, tpm2.TestParms{Parameters: parms})
	return err
}
