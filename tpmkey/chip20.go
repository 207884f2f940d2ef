package tpmkey

import (
	"crypto/rsa"
	"fmt"

	"maclef/blob"
)

// A chip20 is a TPM 2.0: recognised, reported by Status, and refused for
// everything else.
type chip20 struct{}

var errTPM20 = fmt.Errorf("%w: this is a TPM 2.0, and only TPM 1.2 key files can be used so far", ErrNotSupported)

func (chip20) checkUsable(*blob.Key) error                             { return errTPM20 }
func (chip20) load(*blob.Key, authData) (loadedKey, error)             { return nil, errTPM20 }
func (chip20) create(*blob.Key, authData, authData) (*blob.Key, error) { return nil, errTPM20 }
func (chip20) parent(srk, owner authData) (*rsa.PublicKey, error)      { return nil, errTPM20 }
func (chip20) srkReadable() (bool, error)                              { return false, errTPM20 }
func (chip20) ready() error                                            { return errTPM20 }
func (chip20) takeOwnership(owner, srk authData) error                 { return errTPM20 }
func (chip20) random(int) ([]byte, error)                              { return nil, errTPM20 }
func (chip20) status() (*Status, error)                                { return &Status{Family: "2.0"}, nil }
func (chip20) flushAll() (int, error)                                  { return 0, errTPM20 }
