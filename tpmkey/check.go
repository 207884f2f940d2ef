package tpmkey

import (
	"crypto"
	"errors"
	"fmt"

	"maclef/blob"
)

// CheckSign returns why the key of a key file cannot sign digest with opts, nil
// if it can: what Key.Sign would say, but without a TPM, before a secret is
// tried.
func CheckSign(file *blob.Key, digest []byte, opts crypto.SignerOpts) error {
	k, err := abilitiesOf(file)
	if err == nil {
		_, err = k.checkSign(digest, opts)
	}
	if err != nil {
		return fmt.Errorf("sign: %w", err)
	}
	return nil
}

// CheckDecrypt returns why the key of a key file cannot decrypt ciphertext with
// opts, as far as that can be known without a TPM. See Key.Decrypt.
func CheckDecrypt(file *blob.Key, ciphertext []byte, opts crypto.DecrypterOpts) error {
	k, err := abilitiesOf(file)
	if err == nil {
		_, err = k.checkDecrypt(ciphertext, opts)
	}
	if err != nil {
		return fmt.Errorf("decrypt: %w", err)
	}
	return nil
}

// abilitiesOf finds the generation of TPM that a key file is for.
func abilitiesOf(file *blob.Key) (abilities, error) {
	if file == nil || file.PublicKey() == nil {
		return nil, errNoKey
	}
	if file.TSS2 != nil {
		return newAbilities20(file, nil)
	}
	return newAbilities12(file), nil
}

// errNoKey is a blob.Key that blob.Parse did not make.
var errNoKey = errors.New("there is no key in it; read it with blob.Parse")
