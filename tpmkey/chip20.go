package tpmkey

import (
	"crypto"
	"errors"
	"fmt"
	"time"

	"maclef/blob"
	"maclef/internal/transport"
)

// A chip20 is a TPM 2.0: recognised, reported by Status, and refused for
// everything else.
type chip20 struct{ tpm *transport.Device }

func newChip20(dev *transport.Device, patience time.Duration) (chip, error) {
	return chip20{dev}, nil
}

var errTPM20 = fmt.Errorf("%w: this is a TPM 2.0, and only TPM 1.2 key files can be used so far", ErrNotSupported)

// errSetup20 is what changing a TPM 2.0 would say.
var errSetup20 = fmt.Errorf("%w: this is a TPM 2.0, which is set up by the firmware's menu or by tpm2-tools (tpm2_clear, tpm2_dictionarylockout)", ErrNotSupported)

func (chip20) generation() generation                                       { return tpm20Family }
func (chip20) checkUsable(*blob.Key) (abilities, error)                     { return nil, errTPM20 }
func (chip20) load(*blob.Key, authData) (loadedKey, error)                  { return nil, errTPM20 }
func (chip20) checkCreate(*CreateOptions) error                             { return errTPM20 }
func (chip20) create(*CreateOptions, authData, authData) (*blob.Key, error) { return nil, errTPM20 }
func (chip20) checkWrap(crypto.PrivateKey, *WrapOptions) error              { return errTPM20 }
func (chip20) wrap(crypto.PrivateKey, *WrapOptions, *wrapSecrets) (*blob.Key, error) {
	return nil, errTPM20
}
func (chip20) checkSeal([]byte, *SealOptions) error                             { return errTPM20 }
func (chip20) seal([]byte, *SealOptions, authData, authData) (*blob.Key, error) { return nil, errTPM20 }
func (chip20) readHandle(uint32) (*blob.Key, error)                             { return nil, errTPM20 }
func (chip20) srkReadable() (bool, error)                                       { return true, nil }
func (chip20) ready() error                                                     { return errTPM20 }
func (chip20) takeOwnership(owner, srk authData) error                          { return errTPM20 }
func (chip20) random(int) ([]byte, error)                                       { return nil, errTPM20 }
func (chip20) restore(*blob.Key, []byte) (loadedKey, error)                     { return nil, errTPM20 }
func (chip20) checkTry() error                                                  { return errTPM20 }
func (chip20) counted() verdict                                                 { return unknown }
func (chip20) startUp() error                                                   { return errTPM20 }
func (chip20) holds() bool                                                      { return false }
func (chip20) owns(byte, uint32) bool                                           { return false }
func (chip20) endSessions()                                                     {}
func (chip20) forget()                                                          {}
func (chip20) reclaim(func(byte, uint32) bool) error                            { return nil }
func (chip20) misplaced(*blob.Key)                                              {}
func (chip20) misplacedSession()                                                {}
func (chip20) flushKey(uint32) error                                            { return errTPM20 }
func (chip20) flushSession(uint32) error                                        { return errTPM20 }
func (chip20) occupants() (keys, sessions []uint32, err error)                  { return nil, nil, errTPM20 }

func (chip20) condition(err error) condition {
	if err == nil {
		return fine
	}
	return refused
}

func (chip20) setupState() (*setupState, error) { return nil, errSetup20 }
func (chip20) setEnabled(bool, authData) error  { return errSetup20 }
func (chip20) setActive(bool) error             { return errSetup20 }
func (chip20) allowOwner() error                { return errSetup20 }
func (chip20) clear(authData) error             { return errSetup20 }
func (chip20) checkLockout() error              { return errSetup20 }
func (chip20) lockoutClean() (bool, error)      { return false, errSetup20 }
func (chip20) resetLockout(authData) error      { return errSetup20 }

var _ = errors.New
