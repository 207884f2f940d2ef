package chip20

import (
	"errors"
	"fmt"

	"github.com/google/go-tpm/tpm2"

	"maclef/blob"
	"maclef/internal/chip"
	"maclef/internal/policy"
	"maclef/internal/tpm20"
)

// A loadedKey implements chip.LoadedKey.
type loadedKey struct {
	chip   *Chip
	object *tpm20.Object
	file   *blob.TSS2
	parent parentID
	bound  *tpm20.Session // the session bound to the key, nil if the secret is available for each command
	rules  *policy.Policy // set when a key with a policy is first used
	secret bool           // creating its parent needed the hierarchy's secret
}

// persistent reports whether the key is at a persistent handle.
func (k *loadedKey) persistent() bool { return k.file.Handle != 0 }

// Handle implements chip.LoadedKey.
func (k *loadedKey) Handle() uint32 { return uint32(k.object.Handle) }

// auth returns the session that authorizes a command: the policy session, the session bound to
// the key, the shared session, or nil for a key without a secret and a command without secret
// parameters. enc says which parameters must be encrypted. extra has a session that encrypts them
// if the first one cannot.
func (k *loadedKey) auth(command tpm2.TPMCC, key chip.AuthData, enc tpm20.Encrypt) (auth tpm2.Session, extra []tpm2.Session, err error) {
	if longest := len(k.object.Name.Buffer) - 2; len(key) > longest {
		return nil, nil, chip.OfKind(k.wrongSecret(), fmt.Sprintf("it has %d bytes, and no secret of this key more than %d; it was not tried", len(key), longest), nil)
	}
	switch {
	case k.hasPolicy():
		return k.policyAuth(command, key, enc)
	case !k.bound.Alive() && len(key) == 0 && enc == 0:
		return nil, nil, nil
	case k.bound.Alive() && enc == 0:
		return k.bound.For(nil, 0), nil, nil
	}
	s, err := k.chip.sharedSession(k.parent)
	switch {
	case err != nil:
		return nil, nil, err
	case k.bound.Alive(): // encrypting in a bound session needs the secret
		return k.bound.For(nil, 0), []tpm2.Session{s.For(nil, enc)}, nil
	}
	return s.For(key, enc), nil, nil
}

// hasPolicy reports whether the policy must be run: the secret alone does not authorize the key.
func (k *loadedKey) hasPolicy() bool { return needsPolicy(k.file) }

// Authorize opens a session that is bound to the key. It is impossible for a key with a policy,
// which needs the secret each time.
func (k *loadedKey) Authorize(key chip.AuthData) (chip.Session, error) {
	if k.hasPolicy() {
		return nil, chip.ErrNoOwnSession
	}
	err := k.chip.withSaltKey(k.parent, func(salt *tpm20.Object) (err error) {
		k.bound, err = k.chip.conn.StartHMAC(salt, k.object, key)
		return err
	})
	if err != nil {
		return nil, k.chip.explain(err, nil)
	}
	return keySession{k.bound}, nil
}

// A keySession implements chip.Session.
type keySession struct{ *tpm20.Session }

// State implements chip.Session.
func (s keySession) State() (chip.SessionState, uint32) { return chip.StateOf(s) }

// Resume implements chip.LoadedKey.
func (k *loadedKey) Resume(s chip.Session) error {
	k.bound = s.(keySession).Session
	return k.chip.explain(k.bound.Restore(), nil)
}

// sign executes a signPlan.
func (k *loadedKey) sign(plan *signPlan, key chip.AuthData) ([]byte, error) {
	if plan.raw {
		auth, _, err := k.auth(tpm2.TPMCCRSADecrypt, key, 0)
		if err != nil {
			return nil, k.explain(err)
		}
		block, err := k.chip.conn.RSADecrypt(k.object, auth, plan.area, tpm2.TPMTRSADecrypt{Scheme: tpm2.TPMAlgNull})
		if err != nil {
			return nil, k.explain(err)
		}
		return plan.finishRaw(block)
	}
	sig, err := k.signTPM(plan, key)
	if err != nil {
		return nil, err
	}
	return plan.finish(sig)
}

// signTPM sends TPM2_Sign. For a restricted key the TPM hashes the message first, before the policy
// is run, which may be valid for a short time only.
func (k *loadedKey) signTPM(plan *signPlan, key chip.AuthData) (*tpm2.TPMTSignature, error) {
	var ticket []byte
	if plan.hash != 0 {
		var err error
		if ticket, err = k.chip.conn.HashTicket(k.object, plan.hash, plan.message, plan.area); err != nil {
			return nil, k.chip.explain(err, nil)
		}
	}
	auth, _, err := k.auth(tpm2.TPMCCSign, key, 0)
	if err != nil {
		return nil, k.explain(err)
	}
	sig, err := k.chip.conn.Sign(k.object, auth, plan.scheme, plan.area, ticket)
	return sig, k.explain(err)
}

// decrypt executes a decryptPlan. For keys without a scheme the plan checks the padding, not the
// TPM. With sessionKey, no command may reveal whether the padding was good.
func (k *loadedKey) decrypt(ciphertext []byte, plan *decryptPlan, sessionKey bool, key chip.AuthData) ([]byte, error) {
	auth, extra, err := k.auth(tpm2.TPMCCRSADecrypt, key, tpm20.EncryptOut)
	if err != nil {
		return nil, k.explain(err)
	}
	block, err := k.rsaDecrypt(auth, ciphertext, plan, extra)
	if err != nil {
		if plan.open == nil && k.isBadCiphertext(err, sessionKey) {
			return nil, chip.ErrRefusedCiphertext
		}
		return nil, k.explain(err)
	}
	return plan.finish(block)
}

func (k *loadedKey) rsaDecrypt(auth tpm2.Session, ciphertext []byte, o *decryptPlan, extra []tpm2.Session) ([]byte, error) {
	if len(o.label) == 0 {
		return k.chip.conn.RSADecrypt(k.object, auth, ciphertext, o.scheme, extra...)
	}
	rsp, err := tpm20.Run(k.chip.conn, tpm2.RSADecrypt{
		KeyHandle: k.object.Auth(auth), CipherText: tpm2.TPM2BPublicKeyRSA{Buffer: ciphertext},
		InScheme: o.scheme, Label: tpm2.TPM2BData{Buffer: o.label},
	}, extra...)
	if err != nil {
		return nil, err
	}
	return rsp.Message.Buffer, nil
}

// isBadCiphertext reports whether err is the error of a TPM that found wrong padding. libtpms
// answers TPM_RC_FAILURE, which can also mean failure mode. With silent, isBadCiphertext does not
// ask which, because the time could reveal whether the padding was good.
func (k *loadedKey) isBadCiphertext(err error, silent bool) bool {
	var about tpm2.TPMFmt1Error
	if errors.As(err, &about) {
		handle, _ := about.Handle()
		session, _ := about.Session()
		return !handle && !session && isOneOf(err, []tpm2.TPMRC{tpm2.TPMRCValue, tpm2.TPMRCSize})
	}
	if !errors.Is(err, tpm2.TPMRCFailure) {
		return false
	}
	if silent {
		return true
	}
	failed, asked := k.chip.conn.InFailureMode()
	return !failed && asked == nil
}

func (k *loadedKey) agree(point []byte, key chip.AuthData) ([]byte, error) {
	auth, extra, err := k.auth(tpm2.TPMCCECDHZGen, key, tpm20.EncryptOut)
	if err != nil {
		return nil, k.explain(err)
	}
	x, err := k.chip.conn.ECDHZGen(k.object, auth, point, extra...)
	return x, k.explain(err)
}

func (k *loadedKey) unseal(key chip.AuthData) ([]byte, error) {
	auth, extra, err := k.auth(tpm2.TPMCCUnseal, key, tpm20.EncryptOut)
	if err != nil {
		return nil, k.explain(err)
	}
	data, err := k.chip.conn.Unseal(k.object, auth, extra...)
	return data, k.explain(err)
}

// explain explains the error of a command on the key.
func (k *loadedKey) explain(err error) error {
	wrong := k.wrongSecret()
	if k.file.EmptyAuth && !k.hasPolicy() { // no secret was given
		wrong = chip.ErrHasSecret
	}
	return k.chip.explain(k.explainPolicy(err), wrong)
}

// wrongSecret returns the kind of error for a wrong secret of the key or the sealed data.
func (k *loadedKey) wrongSecret() error {
	if k.file.Sealed() {
		return chip.ErrWrongSealedSecret
	}
	return chip.ErrWrongKeySecret
}

// Save implements chip.LoadedKey.
func (k *loadedKey) Save() (chip.Context, error) {
	if k.persistent() { // a persistent key needs no slot
		return chip.Context{}, nil
	}
	saved, err := k.chip.conn.SaveContext(k.object)
	return chip.Context{Data: saved, OfSecret: k.secret}, k.chip.explain(err, nil)
}

// checkAuth checks the key's secret or policy with a command that the TPM refuses afterwards.
func (k *loadedKey) checkAuth(command tpm2.TPMCC, params []byte, key chip.AuthData) error {
	auth, extra, err := k.auth(command, key, 0)
	if err == nil {
		err = k.chip.conn.CheckAuth(command, k.object, auth, params, extra...)
	}
	return k.explain(err)
}
