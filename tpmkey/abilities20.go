package tpmkey

import "github.com/google/go-tpm/tpm2"

// chipAbilities20 are what a TPM 2.0 has, whatever the key, and what was learnt of it.
// All but the latter is read once, before there are keys.
type chipAbilities20 struct {
	algorithms map[tpm2.TPMAlgID]bool
	commands   map[tpm2.TPMCC]bool // nil where they are not known
	salt       pssSalt
}

// usualAlgorithms are what a chip is believed to have where none is asked.
var usualAlgorithms = map[tpm2.TPMAlgID]bool{
	tpm2.TPMAlgSHA1: true, tpm2.TPMAlgSHA256: true, tpm2.TPMAlgSHA384: true, tpm2.TPMAlgSHA512: true,
	tpm2.TPMAlgRSASSA: true, tpm2.TPMAlgRSAPSS: true, tpm2.TPMAlgRSAES: true, tpm2.TPMAlgOAEP: true,
	tpm2.TPMAlgECDSA: true, tpm2.TPMAlgECDH: true,
}
