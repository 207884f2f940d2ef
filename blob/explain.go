package blob

import (
	"fmt"
	"strings"

	"github.com/google/go-tpm/tpm2"
)

// A Row is one line of what a key file says: What it is about, and How it is.
type Row struct{ What, How string }

// Rows explains a key of a TPM 2.0 in words, line by line in the order in which people
// read them: what it is, what it can do, where it lives. A key that Parse would refuse
// has one row with the reason.
func (t *TSS2) Rows() []Row {
	p, err := parsePublicArea(t.Public)
	if err != nil {
		return []Row{{"public area", err.Error()}}
	}
	rows := []Row{
		{"file", t.fileWords()},
		{"key", p.keyWords()},
		{"scheme", p.schemeWords()},
		{"name algorithm", algWords(p.nameAlg)},
		{"attributes", strings.Join(p.attributeNames(), ", ")},
		{"origin", p.originWords()},
		{"moves", p.moveWords()},
	}
	if p.sealed() {
		rows[1].What = "data"
	}
	if t.Description != "" {
		rows = append(rows, Row{"description", fmt.Sprintf("%q", t.Description)})
	}
	return append(rows, Row{"parent", t.ParentWords()}, Row{"secret", t.secretWords(p)}, Row{"wrong secrets", p.lockoutWords()})
}

func (t *TSS2) fileWords() string {
	switch {
	case t.Handle != 0:
		return fmt.Sprintf("none: the TPM keeps the key, at 0x%08x", t.Handle)
	case t.Type == TSS2Loadable && t.old:
		return "loadable key, old form (2.23.133.10.2)"
	case t.Type == TSS2Sealed && t.Importable():
		return "sealed data to be imported first (2.23.133.10.1.5)"
	}
	return fmt.Sprintf("%v (2.23.133.10.1.%d)", t.Type, 3+int(t.Type))
}

func (p *publicArea) keyWords() string {
	switch {
	case p.unknown != "" && p.unknown == algSpec(p.alg):
		return p.unknown + ", unknown to this program"
	case p.alg == tpm2.TPMAlgRSA && p.unknown == "":
		exponent := p.exponent
		if exponent == 0 {
			exponent = defaultExponent
		}
		return fmt.Sprintf("RSA, %d bits, exponent %d", p.keyBits, exponent)
	case p.alg == tpm2.TPMAlgECC && p.unknown == "":
		if c, ok := curves[p.curve]; ok {
			return fmt.Sprintf("ECC, %s (%s)", c.words, curveSpec(p.curve))
		}
		return "ECC, " + curveSpec(p.curve)
	case p.alg == tpm2.TPMAlgSymCipher && p.unknown == "":
		return fmt.Sprintf("%s, %d bits, %s", algWords(p.symmetric.alg), p.symmetric.bits, algWords(p.symmetric.mode))
	case p.sealed():
		return "sealed: TPM2_Unseal gives it"
	case p.alg == tpm2.TPMAlgKeyedHash && p.has(attrDecrypt|attrRestricted):
		return "seed to derive keys from"
	case p.alg == tpm2.TPMAlgKeyedHash:
		return algWords(p.scheme.alg) + " key (" + algSpec(p.alg) + ")"
	}
	return fmt.Sprintf("%s, with %s, unknown to this program", algWords(p.alg), p.unknown)
}

func (p *publicArea) schemeWords() string {
	switch {
	case p.unknown != "":
		return "unknown"
	case p.alg == tpm2.TPMAlgSymCipher:
		return algSpec(p.symmetric.mode)
	case p.scheme.alg == tpm2.TPMAlgNull && p.has(attrRestricted|attrDecrypt):
		return fmt.Sprintf("protects other keys with %s, %d bits", algWords(p.symmetric.alg), p.symmetric.bits)
	case p.scheme.alg == tpm2.TPMAlgNull && p.alg == tpm2.TPMAlgKeyedHash:
		return "none (TPM_ALG_NULL)"
	case p.scheme.alg == tpm2.TPMAlgNull:
		return "any that the command says (TPM_ALG_NULL)"
	case p.scheme.hash != tpm2.TPMAlgNull:
		return fmt.Sprintf("only %s with %s (%s)", algWords(p.scheme.alg), algWords(p.scheme.hash), algSpec(p.scheme.alg))
	}
	return fmt.Sprintf("only %s (%s)", algWords(p.scheme.alg), algSpec(p.scheme.alg))
}

// attributeNames are the specification's, in ascending order of their bits.
func (p *publicArea) attributeNames() []string {
	var names []string
	for _, a := range []struct {
		bit  uint32
		name string
	}{
		{attrFixedTPM, "fixedTPM"},
		{attrSTClear, "stClear"},
		{attrFixedParent, "fixedParent"},
		{attrSensitiveDataOrigin, "sensitiveDataOrigin"},
		{attrUserWithAuth, "userWithAuth"},
		{attrAdminWithPolicy, "adminWithPolicy"},
		{attrFirmwareLimited, "firmwareLimited"},
		{attrSVNLimited, "svnLimited"},
		{attrNoDA, "noDA"},
		{attrEncryptedDuplication, "encryptedDuplication"},
		{attrRestricted, "restricted"},
		{attrDecrypt, "decrypt"},
		{attrSign, "sign"},
		{attrX509Sign, "x509sign"},
	} {
		if p.has(a.bit) {
			names = append(names, a.name)
		}
	}
	if names == nil {
		return []string{"none"}
	}
	return names
}

func (p *publicArea) originWords() string {
	if p.has(attrSensitiveDataOrigin) {
		return "made by a TPM"
	}
	return "made outside of the TPM"
}

func (p *publicArea) moveWords() string {
	switch {
	case p.has(attrFixedTPM):
		return "never leaves its TPM"
	case p.has(attrFixedParent):
		return "only with its parent"
	case len(p.authPolicy) == 0:
		return "never leaves its TPM: duplication takes a policy, and it has none"
	case p.has(attrEncryptedDuplication):
		return "may be duplicated, encrypted, where its policy allows that"
	}
	return "may be duplicated where its policy allows that"
}

func (p *publicArea) lockoutWords() string {
	if p.has(attrNoDA) {
		return "do not count towards a lockout (noDA)"
	}
	return "count towards the TPM's lockout"
}

// ParentWords says what the key's parent is.
func (t *TSS2) ParentWords() string {
	switch {
	case t.Handle != 0:
		return "not said; the key is in the TPM already"
	case t.Parent>>24 != handlePermanent:
		return fmt.Sprintf("the persistent key 0x%08x", t.Parent)
	}
	text := fmt.Sprintf("%s (0x%08x), primary key ECC P-256", hierarchyWords(t.Parent), t.Parent)
	switch {
	case t.guessed:
		return "not said; guessed: " + text
	case t.RSAParent:
		return fmt.Sprintf("%s (0x%08x), primary key RSA 2048", hierarchyWords(t.Parent), t.Parent)
	case t.old:
		return text + " of old files"
	}
	return text
}

func (t *TSS2) secretWords(p *publicArea) string {
	switch {
	case t.EmptyAuth:
		return "none of its own"
	case t.guessed:
		return "not said; the key may need its own secret (-key-pass)"
	case !t.needsSecret():
		return "none for its use: its policy alone rules it"
	case p.has(attrUserWithAuth) || len(p.authPolicy) == 0:
		return "the key needs its own secret (-key-pass)"
	}
	return "its policy asks for one (-key-pass)"
}

// hierarchyWords names a permanent entity.
//
// TPM 2.0 Library Part 2, section 7.4 (TPM_RH)
func hierarchyWords(handle uint32) string {
	names := map[uint32]string{
		0x40000001: "the owner hierarchy",
		0x40000007: "the null hierarchy",
		0x4000000a: "the lockout",
		0x4000000b: "the endorsement hierarchy",
		0x4000000c: "the platform hierarchy",
	}
	if name, ok := names[handle]; ok {
		return name
	}
	return fmt.Sprintf("the entity 0x%08x", handle)
}
