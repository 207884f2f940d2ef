package tpmkey

import (
	"fmt"
	"strconv"
	"strings"

	"maclef/blob"
)

// handlePrefix begins what stands in place of a path for a key without a file.
const handlePrefix = "handle:"

// ParseHandle reads a name like "handle:0x81000001", of a key that a TPM 2.0 keeps
// itself. ok is false for the name of a file.
func ParseHandle(name string) (handle uint32, ok bool, err error) {
	text, ok := strings.CutPrefix(name, handlePrefix)
	if !ok {
		return 0, false, nil
	}
	n, err := strconv.ParseUint(text, 0, 32)
	if err != nil || n>>24 != 0x81 {
		return 0, true, fmt.Errorf("%s: a handle is a number from 0x81000000 to 0x81ffffff; tpmctl status lists those that the TPM keeps", name)
	}
	return uint32(n), true, nil
}

// ReadHandle reads what a key of a TPM 2.0 is that the TPM itself keeps, by its
// persistent handle (0x81…), for Load. Errors: ErrNotSupported for a TPM 1.2;
// ErrNoKey. TPM 2.0 Library Part 3, section 12.4
// (TPM2_ReadPublic).
func (t *TPM) ReadHandle(handle uint32) (k *blob.Key, err error) {
	err = t.simply(func() (err error) { // even to read it takes a place
		k, err = t.chip.readHandle(handle)
		return err
	})
	return k, doingError(fmt.Sprintf("read key %#x", handle), err)
}
