package chip12

import (
	"crypto/rand"
	"crypto/sha1"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"

	"github.com/google/go-tpm/tpm2"

	"maclef/blob"
	"maclef/internal/chip"
	"maclef/internal/tpm12"
)

// Data is sealed as tpm-tools' tpm_sealdata does it: with a new storage key under the SRK, so that
// tpm_unsealdata opens the file.

// commonSecret is the secret of tpm_sealdata's storage keys and sealed data.
var commonSecret = tpm12.Secret(sha1.Sum([]byte("password")))

// newSealed checks spec and returns the function that seals.
func (c *Chip) newSealed(spec *chip.Spec) (func(*chip.Secrets) (blob.Key, error), error) {
	pcrs, err := pcrsOf(spec)
	switch {
	case err != nil:
		return nil, err
	case len(spec.Seal) == 0 || len(spec.Seal) > blob.MaxSealed12:
		return nil, fmt.Errorf("%w: %d bytes of data; 1 to %d can be sealed to a TPM 1.2", chip.ErrNotSupported, len(spec.Seal), blob.MaxSealed12)
	case spec.Parent != 0:
		return nil, fmt.Errorf("%w: a TPM 1.2 seals under the SRK, and has no handle of another parent", chip.ErrNotSupported)
	}
	return func(with *chip.Secrets) (blob.Key, error) { return c.seal(spec.Seal, pcrs, with) }, nil
}

// pcrsOf returns the bit map of the PCRs in spec.
func pcrsOf(spec *chip.Spec) (pcrs uint32, err error) {
	for _, step := range spec.Policy {
		if step.PCRs == nil {
			return 0, fmt.Errorf("%w: a policy of a TPM 1.2 consists of PCRs only, as in pcr:sha1:7", chip.ErrNotSupported)
		}
		for _, s := range step.PCRs {
			if s.Bank != tpm2.TPMAlgSHA1 {
				return 0, fmt.Errorf("%w: the PCRs of a TPM 1.2 are all of bank sha1, which the policy must name, as in pcr:sha1:7", chip.ErrNotSupported)
			}
			pcrs |= s.PCRs
		}
	}
	return pcrs, nil
}

func (c *Chip) seal(data []byte, pcrs uint32, with *chip.Secrets) (blob.Key, error) {
	info, err := c.pcrInfo(pcrs)
	if err != nil {
		return nil, err
	}
	made, err := c.create(storageTemplate(with.Key != nil), &chip.Secrets{Parent: with.Parent, Key: commonSecret[:]})
	if err != nil {
		return nil, err
	}
	storage := made.(*blob.TPMKey)
	seal, ciphertext, err := blob.EncryptSealed(rand.Reader, data)
	if err != nil {
		return nil, err
	}
	defer clear(seal)
	stored, err := c.sealUnder(storage, info, seal, with)
	if err != nil {
		return nil, err
	}
	file, err := blob.NewTPMSealed(storage, stored, ciphertext)
	switch {
	case err != nil:
		return nil, fmt.Errorf("the TPM sealed data that cannot be read: %w", err)
	case file.PCRsChanged():
		return nil, errors.New("a PCR changed while the data was sealed; seal it again")
	}
	return file, nil
}

// sealUnder loads the storage key for TPM_Seal. TPM Main Part 3, section 10.1 (TPM_Seal).
func (c *Chip) sealUnder(storage *blob.TPMKey, info, seal []byte, with *chip.Secrets) ([]byte, error) {
	secret := secretOf(with.Key)
	if secret == nil {
		secret = &commonSecret
	}
	handle, err := c.conn.LoadKey2(tpm12.SRK, storage.Bytes(), secretOf(with.Parent))
	if err != nil {
		return nil, c.explain(err, chip.ErrWrongSRKSecret)
	}
	stored, err := c.conn.Seal(handle, &commonSecret, secret, info, seal)
	flushed := c.Flush(chip.Keys, uint32(handle))
	if err != nil {
		return nil, c.explain(err, nil)
	}
	return stored, flushed
}

// storageTemplate returns the parameters of a new storage key. One for data with a secret of its
// own needs no secret, by which blob.Parse knows such a file.
func storageTemplate(secret bool) *blob.TPMKey {
	t := srkTemplate()
	t.Flags = blob.IsVolatile
	if secret {
		t.AuthDataUsage = blob.AuthNever
	}
	return t
}

// pcrInfo returns the TPM_PCR_INFO_LONG for the present values of the PCRs in a bit map, and for
// every locality; nil for no PCRs.
//
//	tag(2) localityAtCreation(1) localityAtRelease(1) creationPCRSelection releasePCRSelection
//	digestAtCreation(20) digestAtRelease(20)
//
// The TPM sets digestAtCreation. TPM Main Part 2, sections 8.2 (TPM_PCR_COMPOSITE) and 8.4
// (TPM_PCR_INFO_LONG).
func (c *Chip) pcrInfo(pcrs uint32) ([]byte, error) {
	if pcrs == 0 {
		return nil, nil
	}
	selection := []byte{0, 3, byte(pcrs), byte(pcrs >> 8), byte(pcrs >> 16)}
	var values []byte
	for pcr := range 24 {
		if pcrs>>pcr&1 == 0 {
			continue
		}
		value, err := c.conn.PCRRead(pcr)
		if err != nil {
			return nil, fmt.Errorf("read PCR %d: %w", pcr, c.explain(err, nil))
		}
		values = append(values, value...)
	}
	composite := binary.BigEndian.AppendUint32(selection[:len(selection):len(selection)], uint32(len(values)))
	digest := sha1.Sum(append(composite, values...))
	info := append([]byte{0, 6, 1, 0x1f}, selection...)
	info = append(info, selection...)
	info = append(info, make([]byte, sha1.Size)...)
	return append(info, digest[:]...), nil
}

// sealedOps returns the operation that unseals.
func sealedOps(file *blob.TPMSealed) *chip.KeyOps {
	return &chip.KeyOps{Unseal: &chip.Operation{Run: func(in chip.LoadedKey, key chip.AuthData) ([]byte, error) {
		return in.(*loadedKey).unseal(file, key)
	}}}
}

// unseal unseals with the file's storage key. key is the secret of the data; it is nil if the file
// has the common one. TPM Main Part 3, section 10.2 (TPM_Unseal).
func (k *loadedKey) unseal(file *blob.TPMSealed, key chip.AuthData) ([]byte, error) {
	storage, secret := (*tpm12.Secret)(nil), secretOf(key)
	if file.Key.NeedsSecret() {
		storage = &commonSecret
	}
	if secret == nil {
		secret = &commonSecret
	}
	unsealed, err := k.chip.conn.Unseal(k.handle, file.AESKey, storage, secret)
	if err != nil {
		return nil, k.chip.explainUnseal(err, file, key != nil)
	}
	defer clear(unsealed)
	data, ok := file.Decrypt(unsealed)
	if !ok {
		return nil, chip.OfKind(blob.ErrDamaged, "the encrypted data is not what was sealed; get a good copy of the file", nil)
	}
	return data, nil
}

// explainUnseal explains an error of TPM_Unseal. secret says that the data has a secret of its own.
func (c *Chip) explainUnseal(err error, file *blob.TPMSealed, secret bool) error {
	var refused *tpm12.Error
	if !errors.As(err, &refused) {
		return err
	}
	switch code := refused.Code; {
	case code == tpm12.WrongPCRValue:
		pcrs, _ := file.PCRs()
		return chip.OfKind(chip.ErrPolicy, "TPM_WRONGPCRVAL; "+pcrsDiffer(pcrs)+" from when the data was sealed", err)
	case secret && (code == tpm12.Auth2Fail || code == tpm12.AuthFail):
		return c.wrongSecret(chip.ErrWrongSealedSecret, code.Name(), err)
	case code == tpm12.Auth2Fail || code == tpm12.AuthFail: // it is not tried again, as ErrWrongKeySecret might be
		return c.wrongSecret(chip.ErrSecretNeeded, code.Name()+"; the data, or its storage key, has another secret than tpm_sealdata gives", err)
	case badSealed[code]:
		return chip.OfKind(chip.ErrWrongTPM, code.Name()+"; it was sealed by another TPM, or the file is damaged", err)
	}
	return c.explain(err, nil)
}

// pcrsDiffer returns a text that says which PCRs may have changed.
func pcrsDiffer(pcrs []int) string {
	list := strings.Trim(strings.ReplaceAll(fmt.Sprint(pcrs), " ", ","), "[]")
	if len(pcrs) == 1 {
		return "PCR " + list + " differs"
	}
	return "one or more of PCRs " + list + " differ"
}

// badSealed are the result codes of TPM_Unseal for a TPM_STORED_DATA that is not of this TPM, or
// not as it was sealed.
var badSealed = map[tpm12.ResultCode]bool{
	tpm12.NotSealedBlob: true, tpm12.DecryptError: true, tpm12.BadDataSize: true, tpm12.BadParamSize: true,
	tpm12.BadVersion: true, tpm12.InvalidStructure: true, tpm12.BadParameter: true, tpm12.InvalidPCRInfo: true,
}
