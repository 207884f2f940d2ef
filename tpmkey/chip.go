package tpmkey

import (
	"crypto"
	"crypto/rsa"
	"crypto/sha1"
	"errors"
	"fmt"

	"maclef/blob"
	"maclef/internal/tpm12"
	"maclef/internal/transport"
)

// authData is a resolved Secret; nil where none is needed.
type authData = *[sha1.Size]byte

// A chip is one generation of TPM, as the rest of the package sees it. Its
// methods run inside a turn.
type chip interface {
	// checkUsable refuses a key that this chip has no use for. It runs outside a
	// turn and sends nothing.
	checkUsable(k *blob.Key) error
	// load loads a key under the SRK.
	load(k *blob.Key, srk authData) (loadedKey, error)
	// create makes a key under the SRK; key is nil for one without a secret.
	create(t *blob.Key, srk, key authData) (*blob.Key, error)
	// parent returns the SRK's public key, for the owner's secret where owner
	// is not nil, else for the SRK's.
	parent(srk, owner authData) (*rsa.PublicKey, error)
	// srkReadable reports whether the SRK's secret is enough for parent.
	srkReadable() (bool, error)
	// ready is nil for a TPM with an SRK to use, else ErrDisabled or ErrNotOwned.
	ready() error
	takeOwnership(owner, srk authData) error
	setup
	// random returns 1 to n random bytes.
	random(n int) ([]byte, error)
	status() (*Status, error)
	// flushAll frees every loaded key and open session, whoever they belong to,
	// and returns how many keys they were.
	flushAll() (int, error)
	// flushSessions frees every open session alone, and returns how many.
	flushSessions() (int, error)
}

// setup is what changes a chip's state. A nil owner stands for physical presence.
type setup interface {
	setupState() (*setupState, error)
	setEnabled(on bool, owner authData) error
	// setActive takes effect at the next start.
	setActive(on bool) error
	allowOwner() error
	clear(owner authData) error
	// checkLockout is ErrLockedOut where a secret would not be looked at.
	checkLockout() error
	// lockoutClean reports that no wrong secret is counted.
	lockoutClean() (bool, error)
	resetLockout(owner authData) error
}

// abilities are what a chip can do with a key. Its methods run outside a turn
// and send nothing.
type abilities interface {
	// checkSign turns what crypto.Signer is asked for into what the chip is
	// asked for, or refuses it.
	checkSign(digest []byte, opts crypto.SignerOpts) (*signing, error)
	// checkDecrypt refuses options that the key cannot honour.
	checkDecrypt(ciphertext []byte, opts crypto.DecrypterOpts) error
}

// A loadedKey is a key inside a chip.
type loadedKey interface {
	abilities
	// sign and decrypt are one operation of the chip, in a turn. A ciphertext
	// that the chip cannot open is errDecryption.
	sign(area []byte, key authData) ([]byte, error)
	decrypt(ciphertext []byte, key authData) ([]byte, error)
	// flush frees the key's place in the chip, in a turn.
	flush() error
}

// A signing is one signature to be made.
type signing struct {
	area   []byte                       // what the chip is given
	verify func(signature []byte) error // checks what it gives back
}

// errDecryption is a ciphertext that is not one of this key. It does not say
// why, so that nobody learns about the padding.
var errDecryption error = &worded{"decryption error: this is no ciphertext for this key", rsa.ErrDecryption}

// A worded error has a text of its own and the kind of another package's.
type worded struct {
	text string
	kind error
}

func (e *worded) Error() string { return e.text }
func (e *worded) Unwrap() error { return e.kind }

// A noAnswer is a command to which the chip gave no answer that can be trusted.
type noAnswer struct{ error }

func (e *noAnswer) Unwrap() error { return e.error }

// newChip finds out which generation dev is.
func newChip(dev *transport.Device) (chip, error) {
	c := &chip12{conn: tpm12.New(dev)}
	if err := setUpEmulator(dev, c); err != nil {
		return nil, fmt.Errorf("set up the software TPM: %w", err)
	}
	err := c.readLockout()
	switch {
	case errors.Is(err, tpm12.ErrTPM20):
		return chip20{dev}, nil
	case transient(err): // whoever needs the answer asks again
	case err != nil:
		return nil, c.explain(err, nil)
	}
	return c, nil
}
