// Package chip is the vocabulary between the library and the two generations of TPM: what
// the library asks of a TPM, what a key to be made is, and what errors mean. chip12 and
// chip20 implement it.
package chip

import (
	"crypto"
	"crypto/ecdh"

	"maclef/blob"
)

// A Generation is a family of TPMs.
type Generation int

// The generations.
const (
	TPM12 Generation = iota
	TPM20
)

// String is the family as the specifications write it.
func (g Generation) String() string {
	if g == TPM12 {
		return "1.2"
	}
	return "2.0"
}

// AuthData is a secret in the form of the TPM's generation: 20 bytes for a TPM 1.2, the
// authorization value for a TPM 2.0. It is nil where none is needed or known; an empty one
// is a secret.
type AuthData = []byte

// A Chip is a TPM. Its methods send commands and run while this process has the TPM to
// itself, unless they say otherwise.
type Chip interface {
	// Generation sends nothing.
	Generation() Generation
	// Use returns what the TPM can do with the key of a file, or why it has no use for
	// it. It sends nothing and may run at any time.
	Use(k blob.Key) (*KeyOps, error)
	// Load loads a key under its parent; parent is the secret of that, or of the
	// hierarchy that makes it.
	Load(k blob.Key, parent AuthData) (LoadedKey, error)
	// Restore loads a key from a saved context. was is the key that was saved; it is nil
	// for a context from disk, which Restore refuses with ErrOtherContext if it is of
	// anything but k.
	Restore(k blob.Key, was LoadedKey, context []byte) (LoadedKey, error)
	// Prepare starts the session that the next operation of a key needs. There may be no
	// room for that once the key is loaded. secret says that the key's secret is at hand
	// for each operation.
	Prepare(k blob.Key, secret bool) error
	// ClassOf sends nothing.
	ClassOf(err error) ErrClass
	// ReadTries reads what the TPM counts of wrong secrets of a key, or of its parent,
	// before or after one is tried.
	ReadTries(k blob.Key, ofParent, after bool) (*Tries, error)
	// StartUp starts a TPM whose error class is ClassNotStarted.
	StartUp() error
	// Sessions returns the handles of this process's sessions in the TPM. more says that
	// there may be others that were given up and not freed yet. It sends nothing.
	Sessions() (open []uint32, more bool)
	// EndSessions ends the sessions that belong to no key, and reports whether it did.
	EndSessions(Ending) bool
	// NewKey checks what is asked for, without a command, and returns what makes it.
	NewKey(*Spec) (func(*Secrets) (blob.Key, error), error)
	// State reads how far the TPM is set up.
	State() (*State, error)
	// Change changes that, by Secrets.Owner, or by physical presence where it is nil.
	Change(Change, *Secrets) error
	// Loaded lists the handles of what is in the TPM, whoever put it there.
	Loaded(Kind) ([]uint32, error)
	// Flush frees one of those. It is no error if it is gone already.
	Flush(Kind, uint32) error
	// Random returns 1 to n random bytes.
	Random(n int) ([]byte, error)
	Status() (*Status, error)
	// ReadHandle reads the public part of a key that a TPM 2.0 keeps at a persistent
	// handle.
	ReadHandle(handle uint32) (blob.Key, error)
}

// An Ending says which sessions EndSessions ends.
type Ending int

const (
	// EndAll ends all of them.
	EndAll Ending = iota
	// EndIfSeveral ends them where there are at least two.
	EndIfSeveral
	// Forget notes, without a command, that no session is in the TPM any more, those of
	// keys included.
	Forget
)

// A Kind is one of the kinds of objects in a TPM that have handles.
type Kind int

// The kinds.
const (
	Keys          Kind = iota
	Sessions           // that are loaded
	SavedSessions      // that were saved outside the TPM, which keeps a number for each
)

// KeyOps says what a TPM can do with a key. The functions send nothing and may run at any
// time; they return the operation that does what is asked for, or why there is none.
type KeyOps struct {
	// Sign is for the arguments of crypto.Signer.
	Sign func(digest []byte, opts crypto.SignerOpts) (*Operation, error)
	// Decrypt is for those of crypto.Decrypter.
	Decrypt func(ciphertext []byte, opts crypto.DecrypterOpts) (*Operation, error)
	// Agree is for the public key of the other side of a Diffie-Hellman agreement.
	Agree func(remote *ecdh.PublicKey) (*Operation, error)
	// Unseal returns sealed data. It is nil for keys, and Sign, Decrypt and Agree are nil for
	// sealed data.
	Unseal *Operation
	// CheckAuth fails as Sign would if the secret is wrong, and has no result.
	CheckAuth *Operation
}

// An Operation is one command with a loaded key.
type Operation struct {
	// Run sends it, with the key's secret, or nil for a key without one or with a session
	// of its own. A ciphertext that the TPM cannot decrypt is ErrDecryption.
	Run func(in LoadedKey, key AuthData) ([]byte, error)
	// Verify checks the result, without the TPM. It may be nil.
	Verify func(result []byte) error
	// Unsure says that only trying tells whether the TPM can do it.
	Unsure bool
	// SessionKeyLen is the length of a session key to be decrypted: whatever is wrong with
	// the plaintext is no error then. It is 0 for other operations.
	SessionKeyLen int
}

// A LoadedKey is a key inside a TPM.
type LoadedKey interface {
	Handle() uint32
	// Authorize opens a session of the key's own, which authorizes operations from then on
	// without the secret. ErrNoOwnSession says that the secret is needed each time.
	Authorize(key AuthData) (Session, error)
	// Resume brings back a session of this key that was saved.
	Resume(Session) error
	// Save returns what Restore takes; the key stays loaded. A nil Context is that of a
	// key that the TPM keeps itself.
	Save() (Context, error)
}

// A Context is a saved key.
type Context struct {
	Data []byte
	// OfSecret says that its parent is loaded because somebody gave a secret for it.
	OfSecret bool
}

// A Session authorizes one key without its secret.
type Session interface {
	// State says where it is; number is the TPM's for one that is saved.
	State() (state SessionState, number uint32)
	// Save takes it out of the TPM.
	Save() error
	// Close forgets it. One that is in the TPM is freed with the next command that starts
	// a session.
	Close()
}

// A SessionState is where a session is.
type SessionState int

// The states.
const (
	SessionGone SessionState = iota
	SessionLoaded
	SessionSaved
)
