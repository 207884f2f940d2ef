package tpm20

import (
	"bytes"
	"crypto/aes"
	"crypto/hmac"
	"crypto/rand"
	"crypto/subtle"
	"encoding/binary"
	"errors"
	"slices"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"
)

// Encrypt selects which parameters are encrypted: the first of the command, the first of the
// reply. They must be TPM2B structures. TPM 2.0 Library Part 1, section 21.
type Encrypt uint8

// Values of Encrypt, which can be combined.
const (
	EncryptIn  Encrypt = 1 << iota // the command's: Create, Import, Load
	EncryptOut                     // the reply's: Unseal, RSADecrypt, ECDHZGen
)

// errBadHMAC means that the reply's HMAC is wrong.
var errBadHMAC = errors.New("its authorization (HMAC) is wrong: it was changed on its way, or does not come from this TPM")

// A use is a Session as go-tpm's commands take it (tpm2.Session). It can be used for several
// commands, but only once in each.
type use struct {
	*Session
	auth       []byte // auth value of the entity that it authorizes
	enc        Encrypt
	nonce      [nonceSize]byte // nonceCaller
	index      int             // index among the command's sessions
	hmac       []byte          // HMAC key of the command and the reply
	closed     bool            // the TPM has ended the session with the command
	clearsAuth bool            // the command removes the auth value
}

// For returns the session for use in a command. auth is the auth value of the entity that it
// authorizes: empty if the entity has none, or if the session only encrypts.
//
// If the session is bound to the entity, its HMAC does not need auth, which may be nil. The key
// of encrypted parameters always contains auth (TPM 2.0 Library Part 1, section 21.2). A caller
// that no longer has the auth value passes another session in extra, which encrypts. The same
// applies to a policy session that does not require the auth value of an entity that has one.
func (s *Session) For(auth []byte, enc Encrypt) tpm2.Session {
	return &use{Session: s, auth: trim(auth), enc: enc}
}

// ForClear is For in a command that removes the auth value of the entity, such as TPM2_Clear
// authorized by the lockout hierarchy: the reply's HMAC uses the empty auth value. TPM 2.0
// Library Part 3, section 24.6 (TPM2_Clear).
func (s *Session) ForClear(auth []byte) tpm2.Session {
	return &use{Session: s, auth: trim(auth), clearsAuth: true}
}

// secret reports whether the command proves knowledge of an auth value.
func (u *use) secret() bool {
	return u.boundAuth || len(u.auth) > 0 && (!u.policy || len(u.hmac) > len(u.key))
}

// Init checks that the session can be used.
func (u *use) Init(transport.TPM) error {
	if !u.Alive() {
		return ErrSessionEnded
	}
	return nil
}

// CleanupFailure implements tpm2.Session. finish does the work.
func (u *use) CleanupFailure(transport.TPM) error { return nil }

// NonceTPM returns the session's newest nonceTPM.
func (u *use) NonceTPM() tpm2.TPM2BNonce { return tpm2.TPM2BNonce{Buffer: u.nonceTPM} }

// NewNonceCaller creates nonceCaller of the next command.
func (u *use) NewNonceCaller() error {
	_, err := rand.Read(u.nonce[:])
	return err
}

// IsEncryption reports whether the TPM encrypts the reply's first parameter.
func (u *use) IsEncryption() bool { return u.enc&EncryptOut != 0 }

// IsDecryption reports whether the TPM decrypts the command's first parameter.
func (u *use) IsDecryption() bool { return u.enc&EncryptIn != 0 }

// Authorize returns the session's TPMS_AUTH_COMMAND. TPM 2.0 Library Part 1, section 19.6.5.
func (u *use) Authorize(cc tpm2.TPMCC, params, addNonces []byte, names []tpm2.TPM2BName, index int) (*tpm2.TPMSAuthCommand, error) {
	bound := u.bound != nil && index < len(names) && bytes.Equal(names[index].Buffer, u.bound)
	if bound && u.enc != 0 && u.boundAuth && len(u.auth) == 0 {
		return nil, errors.New("a bound session encrypts only by the auth value of its entity: encrypt by another session")
	}
	u.index, u.closed = index, false
	u.conn.current.uses = append(u.conn.current.uses, u)
	u.hmac = append(u.hmac[:0], u.key...)
	if !bound && (!u.policy || u.needAuth) {
		u.hmac = append(u.hmac, u.auth...)
	}
	attributes := tpm2.TPMASession{ContinueSession: true, Decrypt: u.IsDecryption(), Encrypt: u.IsEncryption()}
	auth := &tpm2.TPMSAuthCommand{Handle: u.handle, Nonce: tpm2.TPM2BNonce{Buffer: u.nonce[:]}, Attributes: attributes}
	if u.policy && len(u.hmac) == 0 {
		return auth, nil // the HMAC is empty: TPM 2.0 Library Part 1, section 19.6.5
	}
	digest := u.hash.New() // cpHash
	digest.Write(binary.BigEndian.AppendUint32(nil, uint32(cc)))
	for _, name := range names {
		digest.Write(name.Buffer)
	}
	digest.Write(params)
	auth.Authorization.Buffer = u.mac(digest.Sum(nil), u.nonce[:], u.nonceTPM, addNonces, attributesByte(attributes))
	return auth, nil
}

// Validate checks the session's TPMS_AUTH_RESPONSE and stores its nonce.
func (u *use) Validate(rc tpm2.TPMRC, cc tpm2.TPMCC, params []byte, _ []tpm2.TPM2BName, _ int, auth *tpm2.TPMSAuthResponse) error {
	digest := u.hash.New() // rpHash
	digest.Write(binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(nil, uint32(rc)), uint32(cc)))
	digest.Write(params)
	if u.clearsAuth {
		u.hmac = u.hmac[:len(u.key)]
	}
	mac := u.mac(digest.Sum(nil), auth.Nonce.Buffer, u.nonce[:], nil, attributesByte(auth.Attributes))
	if len(u.hmac) == 0 && len(auth.Authorization.Buffer) == 0 {
		mac = nil // a TPM may leave out an HMAC with an empty key
	}
	if !hmac.Equal(mac, auth.Authorization.Buffer) || len(auth.Nonce.Buffer) != nonceSize {
		return errBadHMAC
	}
	u.nonceTPM, u.closed = auth.Nonce.Buffer, !auth.Attributes.ContinueSession
	return nil
}

// mac returns the HMAC of a command or a reply.
func (u *use) mac(digest, newer, older, addNonces []byte, attributes byte) []byte {
	m := hmac.New(u.hash.New, u.hmac)
	for _, part := range [][]byte{digest, newer, older, addNonces, {attributes}} {
		m.Write(part)
	}
	return m.Sum(nil)
}

// attributesByte marshals a TPMA_SESSION. go-tpm does that by reflection, which takes longer than
// the rest of a command. TPM 2.0 Library Part 2, section 8.4 (TPMA_SESSION).
func attributesByte(a tpm2.TPMASession) (b byte) {
	for bit, set := range [8]bool{a.ContinueSession, a.AuditExclusive, a.AuditReset, false, false, a.Decrypt, a.Encrypt, a.Audit} {
		if set {
			b |= 1 << bit
		}
	}
	return b
}

// attributesOf is the inverse of attributesByte. ok is false if a reserved bit is set.
func attributesOf(b byte) (a tpm2.TPMASession, ok bool) {
	has := func(bit int) bool { return b>>bit&1 != 0 }
	a = tpm2.TPMASession{
		ContinueSession: has(0), AuditExclusive: has(1), AuditReset: has(2), Decrypt: has(5), Encrypt: has(6), Audit: has(7),
	}
	return a, attributesByte(a) == b
}

// Encrypt encrypts a command's parameter.
func (u *use) Encrypt(param []byte) error {
	if u.IsDecryption() {
		u.crypt(param, u.nonce[:], u.nonceTPM, true)
	}
	return nil
}

// Decrypt decrypts a reply's parameter.
func (u *use) Decrypt(param []byte) error {
	if u.IsEncryption() {
		u.crypt(param, u.nonceTPM, u.nonce[:], false)
	}
	return nil
}

// aesBits is the size of the key that encrypts parameters.
const aesBits = 128

// crypt encrypts or decrypts a parameter in place. The key is derived from the session key, the
// auth value and both nonces. TPM 2.0 Library Part 1, section 21.3 (CFB mode parameter
// encryption).
func (u *use) crypt(param, newer, older []byte, encrypt bool) {
	value := slices.Concat(u.key, u.auth)
	key := tpm2.KDFa(u.hash, value, "CFB", newer, older, aesBits+8*aes.BlockSize)
	cfb(key[:aesBits/8], key[aesBits/8:], param, encrypt)
	clear(value)
	clear(key)
}

// cfb is AES in CFB mode with full-block feedback, which crypto/cipher has deprecated. It
// overwrites iv.
func cfb(key, iv, data []byte, encrypt bool) {
	block, err := aes.NewCipher(key)
	if err != nil {
		panic(err) // the size of the key is constant
	}
	for len(data) > 0 {
		stream := make([]byte, aes.BlockSize)
		block.Encrypt(stream, iv)
		n := min(len(data), aes.BlockSize)
		if !encrypt {
			copy(iv, data[:n])
		}
		subtle.XORBytes(data[:n], data[:n], stream)
		if encrypt {
			copy(iv, data[:n])
		}
		data = data[n:]
	}
}
