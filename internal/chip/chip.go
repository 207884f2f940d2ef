// Package chip is the interface between the library and the two generations of TPM: what a TPM
// can be asked to do, what describes a new key, and what errors mean. chip12 and chip20 implement
// it.
package chip

import (
	"crypto"
	"crypto/ecdh"

	"maclef/blob"
)

// A Generation is a version of the TPM specification.
type Generation int

// TPM 1.2 and TPM 2.0.
const (
	TPM12 Generation = iota
	TPM20
)

// String returns the version number.
func (g Generation) String() string {
	if g == TPM12 {
		return "1.2"
	}
	return "2.0"
}

// AuthData is a secret in the form that the TPM takes: 20 bytes for a TPM 1.2, the authorization
// value for a TPM 2.0. It is nil if no secret is needed or known; an empty value is a secret.
type AuthData = []byte

// A Chip is a TPM. Unless documented otherwise, its methods send commands, and are called while
// this process has exclusive access to the TPM.
type Chip interface {
	// Generation sends nothing.
	Generation() Generation
	// Use returns what the TPM can do with the key of a file, or why it can do nothing. It sends
	// nothing and may be called at any time.
	Use(k blob.Key) (*KeyOps, error)
	// Load loads a key under its parent. parent is the secret of the parent, or of the hierarchy
	// that the parent is created in.
	Load(k blob.Key, parent AuthData) (LoadedKey, error)
	// Restore loads a key from a saved context. was is the key that was saved. For a context from
	// disk was is nil, and Restore returns ErrOtherContext unless the context is one of k.
	Restore(k blob.Key, was LoadedKey, context []byte) (LoadedKey, error)
	// Prepare starts the session that the next operation of a key needs. It is called before the
	// key is loaded, because there may be no room for a session after that. secret says that the
	// key's secret will be available for each operation.
	Prepare(k blob.Key, secret bool) error
	// ClassOf returns the class of an error. It sends nothing.
	ClassOf(err error) ErrClass
	// CheckParentSecret returns an error if the secret of a parent must not be used: ErrNoParent, or
	// ErrMovableParent unless movable. 0 is the usual parent.
	CheckParentSecret(parent uint32, movable bool) error
	// ReadTries reads the count of wrong secrets for a key, or for its parent, before or after a
	// secret is tried.
	ReadTries(k blob.Key, ofParent, after bool) (*Tries, error)
	// StartUp sends the startup command after an error of ClassNotStarted.
	StartUp() error
	// Sessions returns the handles of this process's open sessions. more reports whether there
	// may be others that are no longer used and not flushed yet. It sends nothing.
	Sessions() (open []uint32, more bool)
	// EndSessions ends sessions that belong to no key, and reports whether it did.
	EndSessions(Ending) bool
	// NewKey checks the spec and returns the function that creates the key. It sends nothing.
	NewKey(*Spec) (func(*Secrets) (blob.Key, error), error)
	// State reads the TPM's state.
	State() (*State, error)
	// Change changes the state. Secrets.Owner authorizes it; if that is nil, physical presence
	// does.
	Change(Change, *Secrets) error
	// Loaded lists the handles of all loaded objects of a kind, including those of other
	// programs.
	Loaded(Kind) ([]uint32, error)
	// Flush frees a loaded object. It returns nil if the object is gone already.
	Flush(Kind, uint32) error
	// Random returns 1 to n random bytes.
	Random(n int) ([]byte, error)
	Status() (*Status, error)
	// ReadHandle reads the public area of a key at a persistent handle of a TPM 2.0.
	ReadHandle(handle uint32) (blob.Key, error)
}

// An Ending selects the sessions that EndSessions ends.
type Ending int

const (
	// EndAll ends all sessions that belong to no key.
	EndAll Ending = iota
	// EndIfSeveral ends them if there are at least two.
	EndIfSeveral
	// Forget sends nothing. It records that no session is in the TPM any more, including those of
	// keys.
	Forget
)

// A Kind is a kind of TPM objects that have handles.
type Kind int

// The kinds.
const (
	Keys          Kind = iota
	Sessions           // loaded sessions
	SavedSessions      // sessions saved outside the TPM, which keeps a number for each
)

// KeyOps are the operations that a TPM can do with a key. Its functions send nothing and may be
// called at any time. They return the requested operation, or why it is impossible.
type KeyOps struct {
	// Sign takes the arguments of crypto.Signer.
	Sign func(digest []byte, opts crypto.SignerOpts) (*Operation, error)
	// SignMessage takes the arguments of crypto.MessageSigner: the message, not its digest.
	SignMessage func(message []byte, opts crypto.SignerOpts) (*Operation, error)
	// Decrypt takes the arguments of crypto.Decrypter.
	Decrypt func(ciphertext []byte, opts crypto.DecrypterOpts) (*Operation, error)
	// Agree takes the peer's public key of a Diffie-Hellman agreement.
	Agree func(remote *ecdh.PublicKey) (*Operation, error)
	// Unseal returns sealed data. It is nil for keys; for sealed data the others are nil.
	Unseal *Operation
	// CheckAuth checks the key's secret, and has no result. It has no ByCode for keys with which the TPM
	// checks the padding of session keys.
	CheckAuth *Operation
}

// An Operation is a command for a loaded key.
type Operation struct {
	// Run sends the command. key is the key's secret; it is nil if the key has none, or has a
	// session of its own. A ciphertext that the TPM cannot decrypt gives ErrDecryption.
	Run func(in LoadedKey, key AuthData) ([]byte, error)
	// Verify checks the result without the TPM. It may be nil.
	Verify func(result []byte) error
	// ByCode means that Run knows only from a result code that the secret was right. Nobody
	// authenticates result codes.
	ByCode bool
	// Unsure means that only trying shows whether the TPM can do the operation.
	Unsure bool
	// SessionKeyLen is the length of the session key if the plaintext must be one, else 0. Any
	// error in the plaintext is then hidden from the caller.
	SessionKeyLen int
}

// A LoadedKey is a key that is loaded in a TPM.
type LoadedKey interface {
	Handle() uint32
	// Authorize opens a session for this key, which authorizes further operations without the
	// secret. ErrNoOwnSession means that each operation needs the secret.
	Authorize(key AuthData) (Session, error)
	// Resume restores a saved session of this key.
	Resume(Session) error
	// Save returns a context that Restore takes. The key stays loaded. Data is nil for a
	// persistent key.
	Save() (Context, error)
}

// A Context is a saved key.
type Context struct {
	Data []byte
	// OfSecret means that the key was loaded under a parent that needed a secret.
	OfSecret bool
}

// A Session authorizes the operations of one key without its secret.
type Session interface {
	// State returns where the session is. number is the TPM's number of a saved session.
	State() (state SessionState, number uint32)
	// Save removes the session from the TPM, so that LoadedKey.Resume can restore it.
	Save() error
	// Close ends the session. If it is in the TPM, it is flushed before the next session starts.
	Close()
}

// StateOf returns the state of a session of package tpm12 or tpm20, for Session.State.
func StateOf(s interface {
	Alive() bool
	Saved() bool
	Context() uint32
}) (state SessionState, number uint32) {
	switch {
	case s.Alive():
		return SessionLoaded, 0
	case s.Saved():
		return SessionSaved, s.Context()
	}
	return SessionGone, 0
}

// A SessionState is where a session is.
type SessionState int

// The states of a session.
const (
	SessionGone SessionState = iota
	SessionLoaded
	SessionSaved
)
