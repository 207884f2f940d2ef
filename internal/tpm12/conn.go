package tpm12

import "github.com/google/go-tpm/tpm2/transport"

// A Handle names a key that the TPM has loaded. TPM Main Part 2, section 4.4.
type Handle uint32

// SRK is the handle of the storage root key, always loaded in an owned TPM.
const SRK Handle = 0x40000000 // TPM_KH_SRK

// A Conn sends TPM 1.2 commands.
type Conn struct {
	tpm transport.TPM
}

// New returns a Conn that speaks over tpm. It sends nothing.
func New(tpm transport.TPM) *Conn { return &Conn{tpm: tpm} }
