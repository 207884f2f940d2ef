package chip20

import "github.com/google/go-tpm/tpm2"

// Templates of the primary keys that are parents of common key files. A file does not say which
// one its parent is; only loading shows it.

// storageArea returns the common part of the public areas of storage keys.
func storageArea(noDA bool) tpm2.TPMTPublic {
	return tpm2.TPMTPublic{
		NameAlg: tpm2.TPMAlgSHA256,
		ObjectAttributes: tpm2.TPMAObject{
			FixedTPM: true, FixedParent: true, SensitiveDataOrigin: true, UserWithAuth: true,
			NoDA: noDA, Restricted: true, Decrypt: true,
		},
	}
}

// aes128CFB returns the symmetric algorithm that protects a storage key's children.
func aes128CFB() tpm2.TPMTSymDefObject {
	return tpm2.TPMTSymDefObject{
		Algorithm: tpm2.TPMAlgAES,
		KeyBits:   tpm2.NewTPMUSymKeyBits(tpm2.TPMAlgAES, tpm2.TPMKeyBits(128)),
		Mode:      tpm2.NewTPMUSymMode(tpm2.TPMAlgAES, tpm2.TPMAlgCFB),
	}
}

// eccStorage returns the template of a P-256 storage key. zeros is the length of each coordinate
// in the field unique. eccStorage(0, true) is template H-2. TCG EK Credential Profile, annex B.
func eccStorage(zeros int, noDA bool) tpm2.TPMTPublic {
	area := storageArea(noDA)
	area.Type = tpm2.TPMAlgECC
	area.Parameters = tpm2.NewTPMUPublicParms(tpm2.TPMAlgECC, &tpm2.TPMSECCParms{
		Symmetric: aes128CFB(), CurveID: tpm2.TPMECCNistP256,
	})
	area.Unique = tpm2.NewTPMUPublicID(tpm2.TPMAlgECC, &tpm2.TPMSECCPoint{
		X: tpm2.TPM2BECCParameter{Buffer: make([]byte, zeros)}, Y: tpm2.TPM2BECCParameter{Buffer: make([]byte, zeros)},
	})
	return area
}

// rsaStorage is eccStorage for RSA with 2048 bits. rsaStorage(0, true) is template H-1.
func rsaStorage(zeros int, noDA bool) tpm2.TPMTPublic {
	area := storageArea(noDA)
	area.Type = tpm2.TPMAlgRSA
	area.Parameters = tpm2.NewTPMUPublicParms(tpm2.TPMAlgRSA, &tpm2.TPMSRSAParms{Symmetric: aes128CFB(), KeyBits: 2048})
	area.Unique = tpm2.NewTPMUPublicID(tpm2.TPMAlgRSA, &tpm2.TPM2BPublicKeyRSA{Buffer: make([]byte, zeros)})
	return area
}

// A primary is one of the templates.
type primary int

const (
	primaryH2       primary = iota // most files
	primaryECCZeros                // go-tpm's ECCSRKTemplate
	primaryToolsECC                // tpm2_createprimary -G ecc
	primaryOld                     // TSS2 KEY BLOB files
	primaryH1                      // files with rsaParent; TPMs take seconds to create it
	primaryRSAZeros                // smallstep's
	primaryToolsRSA                // tpm2_createprimary
	numberOfPrimaries
)

func (p primary) template() tpm2.TPMTPublic {
	switch p {
	case primaryH1:
		return rsaStorage(0, true)
	case primaryRSAZeros:
		return rsaStorage(256, true)
	case primaryECCZeros:
		return eccStorage(32, true)
	case primaryToolsECC:
		return eccStorage(0, false)
	case primaryToolsRSA:
		return rsaStorage(0, false)
	case primaryOld:
		area := eccStorage(0, true)
		area.ObjectAttributes.FixedTPM, area.ObjectAttributes.FixedParent = false, false
		return area
	}
	return eccStorage(0, true)
}
