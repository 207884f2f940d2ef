package chip20

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"time"

	"github.com/google/go-tpm/tpm2"

	"maclef/internal/chip"
	"maclef/internal/printable"
)

// Bits of TPMA_PERMANENT and TPMA_STARTUP_CLEAR. TPM 2.0 Library Part 2, sections
// 8.6 and 8.7.
const (
	ownerAuthSet = 1 << 0
	inLockout    = 1 << 9
	shEnable     = 1 << 1
	orderly      = 1 << 31
)

// Status implements chip.Chip.
func (c *Chip) Status() (*chip.Status, error) {
	fixed, err := c.readProperties(tpm2.TPMPTFamilyIndicator)
	if err != nil {
		return nil, err
	}
	now, err := c.readProperties(tpm2.TPMPTPermanent)
	if err != nil {
		return nil, err
	}
	permanent := now[tpm2.TPMPTPermanent]
	s := &chip.Status{
		Vendor:    fixed.text(tpm2.TPMPTManufacturer),
		Model:     fixed.text(tpm2.TPMPTVendorString1, tpm2.TPMPTVendorString2, tpm2.TPMPTVendorString3, tpm2.TPMPTVendorString4),
		SpecLevel: int(fixed[tpm2.TPMPTLevel]),
		Revision:  fmt.Sprintf("%d.%02d", fixed[tpm2.TPMPTRevision]/100, fixed[tpm2.TPMPTRevision]%100),
		Enabled:   now[tpm2.TPMPTStartupClear]&shEnable != 0,
		Owned:     permanent&ownerAuthSet != 0,
		FreeKeys:  int(now[tpm2.TPMPTHRTransientAvail]),
		MaxKeys:   int(fixed[tpm2.TPMPTHRTransientMin]),
		Lockout: &chip.Lockout{
			Locked: permanent&inLockout != 0, Known: true,
			Tries: int(now[tpm2.TPMPTLockoutCounter]), Threshold: int(now[tpm2.TPMPTMaxAuthFail]),
			Duration: time.Duration(now[tpm2.TPMPTLockoutInterval]) * time.Second,
		},
	}
	s.Active = s.Enabled // a TPM 2.0 does not distinguish the two
	// Makers write firmware versions as four numbers.
	first, second := fixed[tpm2.TPMPTFirmwareVersion1], fixed[tpm2.TPMPTFirmwareVersion2]
	s.Firmware = fmt.Sprintf("%d.%d.%d.%d", first>>16, first&0xffff, second>>16, second&0xffff)
	return s, c.readCapabilities(s)
}

// readCapabilities reads the key types, the hashes and the persistent keys.
func (c *Chip) readCapabilities(s *chip.Status) (err error) {
	if s.KeyTypes, err = c.keyTypes(); err != nil {
		return c.explain(err, nil)
	}
	for _, h := range hashes {
		if c.can.algorithms[h.alg] {
			s.Hashes = append(s.Hashes, h.hash.String())
		}
	}
	handles, err := c.conn.Handles(persistentFirst)
	if err != nil {
		return c.explain(err, nil)
	}
	for _, h := range handles {
		if uint32(h)>>24 == 0x81 {
			s.Persistent = append(s.Persistent, uint32(h))
		}
	}
	return nil
}

// properties are 32-bit properties (TPM_PT).
type properties map[tpm2.TPMPT]uint32

// readProperties reads the group of properties that begins with first.
func (c *Chip) readProperties(first tpm2.TPMPT) (properties, error) {
	all, err := c.conn.Properties(first)
	return all, c.explain(err, nil)
}

// text returns the text in properties of four characters each.
func (p properties) text(names ...tpm2.TPMPT) string {
	var b []byte
	for _, name := range names {
		b = binary.BigEndian.AppendUint32(b, p[name])
	}
	words := bytes.FieldsFunc(b, func(r rune) bool { return r <= ' ' })
	for i, word := range words {
		words[i] = []byte(printable.ASCII(word))
	}
	return string(bytes.Join(words, []byte(" ")))
}
