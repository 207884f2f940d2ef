package main

import (
	"cmp"
	"fmt"
	"strings"

	"github.com/google/go-tpm/tpm2"

	"maclef/blob"
	"maclef/internal/policy"
	"maclef/internal/pubarea"
)

// tss2Rows describes a key of a TPM 2.0: what it is, what it can do, where it belongs, what its use
// needs. A key that blob.Parse would refuse has one row with the reason.
func tss2Rows(t *blob.TSS2) []row {
	p, err := pubarea.Parse(t.Public)
	if err != nil {
		return []row{{"public area", err.Error()}}
	}
	what := "key"
	if p.Sealed() {
		what = "data"
	}
	rows := []row{
		{"file", fileText(t)},
		{what, keyText(p)},
		{"scheme", schemeText(p)},
		{"name algorithm", pubarea.AlgName(p.NameAlg)},
		{"attributes", strings.Join(p.AttributeNames(), ", ")},
		{"origin", originText(p)},
		{"moves", moveText(p)},
	}
	if t.Description != "" {
		rows = append(rows, row{"description", fmt.Sprintf("%q", t.Description)})
	}
	by := policy.Recognise(t)
	rows = append(rows, row{"parent", parentText(t)}, row{"secret", secretText20(by, p)}, row{"wrong secrets", wrongSecretsText(p)})
	rows = append(rows, policyRows(by, p)...)
	if by != t {
		rows = append(rows, row{"policy steps", "recognised by the digest, which alone is stored"})
	}
	if name, err := t.Name(); err == nil {
		rows = append(rows, row{"TPM name", fmt.Sprintf("%x", name)})
	}
	return rows
}

func fileText(t *blob.TSS2) string {
	switch {
	case t.Container() == blob.ESYSObject:
		return fmt.Sprintf("names the persistent key 0x%08x of the TPM", t.Handle)
	case t.Handle != 0 && t.Private != nil:
		return fmt.Sprintf("%v (2.23.133.10.1.%d), which stands for the persistent key 0x%08x of the TPM", t.Type, 3+int(t.Type), t.Handle)
	case t.Handle != 0:
		return fmt.Sprintf("none: persistent key 0x%08x of the TPM", t.Handle)
	case isOld(t):
		return "loadable key, old form (2.23.133.10.2)"
	case t.Type == blob.TSS2Sealed && t.Importable():
		return "sealed data to be imported first (2.23.133.10.1.5)"
	}
	return fmt.Sprintf("%v (2.23.133.10.1.%d)", t.Type, 3+int(t.Type))
}

// isOld reports whether a file has the first form of create_tpm2_key.
func isOld(t *blob.TSS2) bool {
	return t.Container() == blob.TSS2BlobPEM || t.Container() == blob.TSS2BlobDER
}

func keyText(p *pubarea.Area) string {
	switch {
	case p.Unknown != "" && p.Unknown == pubarea.AlgSpec(p.Alg):
		return p.Unknown + ", unknown to this program"
	case p.Alg == tpm2.TPMAlgRSA && p.Unknown == "":
		return fmt.Sprintf("RSA, %d bits, exponent %d", p.KeyBits, cmp.Or(p.Exponent, 65537))
	case p.Alg == tpm2.TPMAlgECC && p.Unknown == "":
		if c, ok := pubarea.Curves[p.Curve]; ok {
			return fmt.Sprintf("ECC, %s (%s)", c.Name, pubarea.CurveSpec(p.Curve))
		}
		return "ECC, " + pubarea.CurveSpec(p.Curve)
	case p.Alg == tpm2.TPMAlgSymCipher && p.Unknown == "":
		return fmt.Sprintf("%s, %d bits, %s", pubarea.AlgName(p.Symmetric.Alg), p.Symmetric.Bits, pubarea.AlgName(p.Symmetric.Mode))
	case p.Sealed():
		return "sealed: TPM2_Unseal gives it"
	case p.Alg == tpm2.TPMAlgKeyedHash && p.Has(pubarea.AttrDecrypt|pubarea.AttrRestricted):
		return "seed to derive keys from"
	case p.Alg == tpm2.TPMAlgKeyedHash:
		return pubarea.AlgName(p.Scheme.Alg) + " key (" + pubarea.AlgSpec(p.Alg) + ")"
	}
	return fmt.Sprintf("%s, with %s, unknown to this program", pubarea.AlgName(p.Alg), p.Unknown)
}

func schemeText(p *pubarea.Area) string {
	switch {
	case p.Unknown != "":
		return "unknown"
	case p.Alg == tpm2.TPMAlgSymCipher:
		return pubarea.AlgSpec(p.Symmetric.Mode)
	case p.Scheme.Alg == tpm2.TPMAlgNull && p.Has(pubarea.AttrRestricted|pubarea.AttrDecrypt):
		return fmt.Sprintf("protects other keys with %s, %d bits", pubarea.AlgName(p.Symmetric.Alg), p.Symmetric.Bits)
	case p.Scheme.Alg == tpm2.TPMAlgNull && p.Alg == tpm2.TPMAlgKeyedHash:
		return "none (TPM_ALG_NULL)"
	case p.Scheme.Alg == tpm2.TPMAlgNull:
		return "any that the command says (TPM_ALG_NULL)"
	case p.Scheme.Hash != tpm2.TPMAlgNull:
		return fmt.Sprintf("only %s with %s (%s)", pubarea.AlgName(p.Scheme.Alg), pubarea.AlgName(p.Scheme.Hash), pubarea.AlgSpec(p.Scheme.Alg))
	}
	return fmt.Sprintf("only %s (%s)", pubarea.AlgName(p.Scheme.Alg), pubarea.AlgSpec(p.Scheme.Alg))
}

// isUseless reports whether no program can use a key.
func isUseless(t *blob.TSS2) bool {
	p, err := pubarea.Parse(t.Public)
	return err == nil && p.Useless()
}

func originText(p *pubarea.Area) string {
	if p.Has(pubarea.AttrSensitiveDataOrigin) {
		return "made by a TPM"
	}
	return "made outside of the TPM"
}

func moveText(p *pubarea.Area) string {
	switch {
	case p.Has(pubarea.AttrFixedTPM):
		return "never leaves its TPM"
	case p.Has(pubarea.AttrFixedParent):
		return "only with its parent"
	case len(p.AuthPolicy) == 0 && p.Has(pubarea.AttrSensitiveDataOrigin):
		return "never leaves its TPM: duplication takes a policy, and it has none"
	case len(p.AuthPolicy) == 0:
		return "it was outside of the TPM once, and can be duplicated no more: that takes a policy, and it has none"
	case p.Has(pubarea.AttrEncryptedDuplication):
		return "may be duplicated, encrypted, where its policy allows that"
	}
	return "may be duplicated where its policy allows that"
}

func wrongSecretsText(p *pubarea.Area) string {
	if p.Has(pubarea.AttrNoDA) {
		return "do not count towards a lockout (noDA)"
	}
	return "count towards the TPM's lockout"
}

func parentText(t *blob.TSS2) string {
	switch {
	case t.Handle != 0:
		return "unknown; the key is already in the TPM"
	case t.Parent>>24 != 0x40:
		return fmt.Sprintf("the persistent key 0x%08x", t.Parent)
	}
	algorithm := "ECC P-256"
	if t.RSAParent && !t.Guessed() {
		algorithm = "RSA 2048"
	}
	text := fmt.Sprintf("%s (0x%08x), primary key %s", policy.DescribeHierarchy(tpm2.TPMHandle(t.Parent)), t.Parent, algorithm)
	switch {
	case t.Guessed():
		text = "not in the file; assumed: " + text
	case isOld(t) && !t.RSAParent:
		text += " of old files"
	}
	if t.Parent == uint32(tpm2.TPMRHNull) {
		text += "; the key ends when the TPM restarts"
	}
	return text
}

func policyRows(t *blob.TSS2, p *pubarea.Area) (rows []row) {
	steps := "give them with -policy; whoever made it knows them"
	if p.Has(pubarea.AttrUserWithAuth) {
		steps = "not needed to use it: its secret alone does (userWithAuth)"
	}
	for _, l := range policy.Describe(t) {
		rows = append(rows, row{l.Name, l.Value})
		if l.Value == policy.UnknownSteps {
			rows = append(rows, row{"policy steps", steps})
		}
	}
	return rows
}

func secretText20(t *blob.TSS2, p *pubarea.Area) string {
	owner := policy.SecretOwner(t)
	byPolicy := !p.Has(pubarea.AttrUserWithAuth) && len(p.AuthPolicy) > 0
	switch {
	case p.Useless():
		return "none helps: it has neither userWithAuth nor a policy"
	case byPolicy && len(t.Policy) == 0 && !t.ByPolicy:
		return "unknown: it depends on the steps of its policy"
	case t.EmptyAuth && owner != "":
		return "none of its own; its policy asks for that of " + owner + ", which can be given (-key-pass)"
	case t.EmptyAuth:
		return "none of its own"
	case t.Handle != 0 && !t.ByPolicy:
		return "unknown; the key may need its own secret (-key-pass)"
	case t.Guessed() && !t.ByPolicy:
		return "not in the file; the key may need its own secret (-key-pass)"
	case !t.NeedsSecret():
		return "none: only its policy controls its use"
	case owner != "":
		return "its policy asks for that of " + owner + " (-key-pass)"
	case !byPolicy:
		return "the key needs its own secret (-key-pass)"
	}
	return "its policy asks for its own (-key-pass)"
}
