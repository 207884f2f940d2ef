package tpmkey

import (
	"crypto/rsa"
	"fmt"

	"github.com/google/go-tpm/tpm2/transport"

	"maclef/blob"
)

// A chip20 is a TPM 2.0: recognised, reported by Status, and refused for
// everything else.
type chip20 struct{ tpm transport.TPM }

var errTPM20 = fmt.Errorf("%w: this is a TPM 2.0, and only TPM 1.2 key files can be used so far", ErrNotSupported)

// errSetup20 is what changing a TPM 2.0 would say.
var errSetup20 = fmt.Errorf("%w: this is a TPM 2.0, which is set up by the firmware's menu or by tpm2-tools (tpm2_clear, tpm2_dictionarylockout)", ErrNotSupported)

func (chip20) checkUsable(*blob.Key) error                             { return errTPM20 }
func (chip20) load(*blob.Key, authData) (loadedKey, error)             { return nil, errTPM20 }
func (chip20) create(*blob.Key, authData, authData) (*blob.Key, error) { return nil, errTPM20 }
func (chip20) parent(srk, owner authData) (*rsa.PublicKey, error)      { return nil, errTPM20 }
func (chip20) srkReadable() (bool, error)                              { return false, errTPM20 }
func (chip20) ready() error                                            { return errTPM20 }
func (chip20) takeOwnership(owner, srk authData) error                 { return errTPM20 }
func (chip20) random(int) ([]byte, error)                              { return nil, errTPM20 }
func (chip20) flushAll() (int, error)                                  { return 0, errTPM20 }
func (chip20) flushSessions() (int, error)                             { return 0, errTPM20 }

func (chip20) setupState() (*setupState, error) { return nil, errSetup20 }
func (chip20) setEnabled(bool, authData) error  { return errSetup20 }
func (chip20) setActive(bool) error             { return errSetup20 }
func (chip20) allowOwner() error                { return errSetup20 }
func (chip20) clear(authData) error             { return errSetup20 }
func (chip20) checkLockout() error              { return errSetup20 }
func (chip20) lockoutClean() (bool, error)      { return false, errSetup20 }
func (chip20) resetLockout(authData) error      { return errSetup20 }
