package tpmkey

import (
	"crypto"
	"crypto/ecdh"
	"crypto/rsa"
	"errors"
	"fmt"
	"time"

	"maclef/blob"
	"maclef/internal/tpm12"
	"maclef/internal/transport"
)

// A generation is a family of TPMs: 1.2 or 2.0.
type generation int

const (
	tpm12Family generation = iota
	tpm20Family
)

// authData is a resolved Secret in the form of the TPM's generation: 20 bytes for a
// TPM 1.2, the authorization value for a TPM 2.0. It is nil where none is needed or
// known; an empty one is a secret.
type authData = []byte

// A chip is one generation of TPM, as the rest of the package sees it. Its
// methods run inside a turn, unless they say otherwise.
type chip interface {
	generation() generation
	// checkUsable refuses a key that this chip has no use for, and returns what it
	// can do with the others. It runs outside a turn and sends nothing.
	checkUsable(k *blob.Key) (abilities, error)
	// load loads a key under its parent. srk is the secret of that, or of what makes it.
	// restore loads one that was loaded before from what loadedKey.save gave.
	load(k *blob.Key, srk authData) (loadedKey, error)
	restore(was loadedKey, context []byte) (loadedKey, error)
	// recall is restore for the key of a file that another process has loaded, perhaps:
	// it refuses a context of anything else.
	recall(k *blob.Key, context []byte) (loadedKey, error)
	// prepare has ready what an operation of a key takes besides the key, for which there
	// may be no room once that is loaded; secret says that it has one, which is at hand
	// each time.
	prepare(k *blob.Key, secret bool) error
	// classOf says what an error means for what is loaded.
	classOf(err error) errClass
	// triedSecret reports whether the command that an error is of may have proved a secret.
	triedSecret(err error) bool
	// readTries reads what the TPM counts of wrong secrets of a key, or of its parent,
	// before one is tried or after that.
	readTries(k *blob.Key, ofParent, after bool) (*tries, error)
	// lockedOut is the error of a TPM that looks at no secret.
	lockedOut() error
	// startUp starts a TPM that says classNotStarted.
	startUp() error
	// holds reports whether sessions are open; owns whether one is this process's.
	// endSessions ends those that belong to no key, endShared does where there is more
	// than one, and reports whether it did. forget takes note that none is there.
	holds() bool
	owns(session uint32) bool
	endSessions()
	endShared() bool
	forget()
	maker
	// ready is nil for a TPM with an SRK to use, else ErrDisabled or ErrNotOwned.
	ready() error
	takeOwnership(owner, srk authData) error
	setup
	// random returns 1 to n random bytes.
	random(n int) ([]byte, error)
	status() (*Status, error)
	// occupants are the handles of all loaded keys and open sessions; saved are the
	// numbers of the sessions that are saved outside the TPM.
	occupants() (keys, sessions []uint32, err error)
	saved() ([]uint32, error)
	flushKey(handle uint32) error
	flushSession(handle uint32) error
	flushSaved(number uint32) error
	// readHandle reads a key that the TPM itself keeps.
	readHandle(handle uint32) (*blob.Key, error)
}

// maker is what makes key files. The checks run outside a turn and send nothing.
type maker interface {
	checkCreate(o *CreateOptions) error
	// create makes a key under the SRK; key is nil for one without a secret.
	create(o *CreateOptions, srk, key authData) (*blob.Key, error)
	checkWrap(key crypto.PrivateKey, o *WrapOptions) error
	// srkReadable reports whether the SRK's secret is enough for wrap, which
	// otherwise takes the owner's.
	srkReadable() (bool, error)
	wrap(key crypto.PrivateKey, o *WrapOptions, with *wrapSecrets) (*blob.Key, error)
	checkSeal(data []byte, o *SealOptions) error
	seal(data []byte, o *SealOptions, srk, key authData) (*blob.Key, error)
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
	// checkDecrypt does so with what crypto.Decrypter is asked for.
	checkDecrypt(ciphertext []byte, opts crypto.DecrypterOpts) (*decryption, error)
	// checkAgree returns the other side's point as the chip takes it, or refuses.
	checkAgree(remote *ecdh.PublicKey) ([]byte, error)
}

// A loadedKey is a key inside a chip.
type loadedKey interface {
	// sign and decrypt are one operation of the chip, in a turn, with the key's
	// secret, or by the session of authorize. A ciphertext that the chip cannot
	// open is errDecryption.
	sign(s *signing, key authData) ([]byte, error)
	decrypt(d *decryption, key authData) ([]byte, error)
	// agree returns the x coordinate of a Diffie-Hellman agreement.
	agree(point []byte, key authData) ([]byte, error)
	// unseal returns sealed data.
	unseal(key authData) ([]byte, error)
	// authorize opens a session of the key's own, which needs the secret no more and
	// authorizes from then on, or is errNoOwnSession. resume brings one back that was
	// saved.
	authorize(key authData) (keySession, error)
	resume(keySession) error
	// save returns what restore takes; the key stays loaded.
	save() ([]byte, error)
	// flush frees the key's place in the chip; that it is gone already is no error.
	flush() error
	// ofSecret reports whether its parent is there because somebody had a secret for it,
	// who may not be the one that loaded the key.
	ofSecret() bool
	// number is the key's handle.
	number() uint32
}

// A keySession authorizes one key without its secret. It outlives the key's stay in the
// TPM, when it is saved before.
type keySession interface {
	Alive() bool // it is in the TPM
	// Save takes it out of the TPM, where it is known by the number Context; Saved
	// reports whether that was done.
	Save() error
	Saved() bool
	Context() uint32
	// Close forgets it. In the TPM it is freed with the next session, unless it is saved.
	Close()
}

// A signing is one signature to be made.
type signing struct {
	area   []byte                       // what the chip is given
	verify func(signature []byte) error // checks what it gives back
	how    any                          // of the generation
}

// A decryption is one ciphertext to be opened.
type decryption struct {
	ciphertext []byte
	// sessionKeyLen is the length of a session key, for which whatever is wrong with
	// the plaintext is no error; 0 for other plaintexts.
	sessionKeyLen int
	how           any // of the generation
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

// newChip finds out which generation dev is, and waits as long for one that is busy
// with itself.
func newChip(dev *transport.Device, patience time.Duration, around host) (chip, error) {
	c := newChip12(dev)
	c.conn.Patience = patience
	if err := setUpEmulator(dev, c); err != nil {
		return nil, fmt.Errorf("set up the software TPM: %w", err)
	}
	err := c.readLockout()
	if c.classOf(err) == classNotStarted {
		if err = c.startUp(); err == nil {
			err = c.readLockout()
		}
	}
	switch {
	case errors.Is(err, tpm12.ErrTPM20):
		return newChip20(dev, patience, around)
	case transient(err): // whoever needs the answer asks again
	case err != nil:
		return nil, c.explain(err, nil)
	}
	return c, nil
}
