package blob

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/google/go-tpm/tpm2"

	"maclef/internal/pubarea"
)

// policyNames are the specification's names of policy commands, without TPM2_.
var policyNames = map[tpm2.TPMCC]string{
	tpm2.TPMCCPolicyNV:                "PolicyNV",
	tpm2.TPMCCPolicySecret:            "PolicySecret",
	tpm2.TPMCCPolicySigned:            "PolicySigned",
	tpm2.TPMCCPolicyAuthorize:         "PolicyAuthorize",
	tpm2.TPMCCPolicyAuthValue:         "PolicyAuthValue",
	tpm2.TPMCCPolicyCommandCode:       "PolicyCommandCode",
	tpm2.TPMCCPolicyCounterTimer:      "PolicyCounterTimer",
	tpm2.TPMCCPolicyCpHash:            "PolicyCpHash",
	tpm2.TPMCCPolicyLocality:          "PolicyLocality",
	tpm2.TPMCCPolicyNameHash:          "PolicyNameHash",
	tpm2.TPMCCPolicyOR:                "PolicyOR",
	tpm2.TPMCCPolicyTicket:            "PolicyTicket",
	tpm2.TPMCCPolicyPCR:               "PolicyPCR",
	tpm2.TPMCCPolicyPhysicalPresence:  "PolicyPhysicalPresence",
	tpm2.TPMCCPolicyDuplicationSelect: "PolicyDuplicationSelect",
	tpm2.TPMCCPolicyPassword:          "PolicyPassword",
	tpm2.TPMCCPolicyNvWritten:         "PolicyNvWritten",
	tpm2.TPMCCPolicyTemplate:          "PolicyTemplate",
	tpm2.TPMCCPolicyAuthorizeNV:       "PolicyAuthorizeNV",
}

func policyName(code tpm2.TPMCC) string {
	if name, ok := policyNames[code]; ok {
		return name
	}
	return fmt.Sprintf("command 0x%08x", uint32(code))
}

// usedCommands are the commands that a policy can restrict a key to in practice.
var usedCommands = map[tpm2.TPMCC]string{
	tpm2.TPMCCSign:               "TPM2_Sign",
	tpm2.TPMCCRSADecrypt:         "TPM2_RSA_Decrypt",
	tpm2.TPMCCECDHZGen:           "TPM2_ECDH_ZGen",
	tpm2.TPMCCUnseal:             "TPM2_Unseal",
	tpm2.TPMCCDuplicate:          "TPM2_Duplicate",
	tpm2.TPMCCActivateCredential: "TPM2_ActivateCredential",
	tpm2.TPMCCCertify:            "TPM2_Certify",
}

// Words says what must hold for the command to succeed: "PolicyPCR: sha256 PCRs 7, 11".
// alg is the name algorithm of the key. Unknown commands are named by their code.
func (c PolicyCommand) Words(alg tpm2.TPMAlgID) string {
	name := policyName(c.Code)
	text, err := c.condition(alg)
	switch {
	case err != nil:
		return fmt.Sprintf("%s: %d bytes that do not fit it (%v)", name, len(c.Policy), err)
	case text == "":
		return fmt.Sprintf("%s, with %d bytes", name, len(c.Policy))
	}
	return name + ": " + text
}

// condition says what the command asks for; nothing where that is not known.
func (c PolicyCommand) condition(alg tpm2.TPMAlgID) (string, error) {
	switch c.Code {
	case tpm2.TPMCCPolicyNV, tpm2.TPMCCPolicySigned, tpm2.TPMCCPolicyTicket, tpm2.TPMCCPolicyAuthorizeNV:
		return "", nil
	case tpm2.TPMCCPolicyPCR:
		return c.pcrWords(alg)
	case tpm2.TPMCCPolicySecret:
		return c.secretWords()
	case tpm2.TPMCCPolicyAuthorize:
		return c.authorizeWords()
	}
	if _, ok := policyNames[c.Code]; !ok {
		return "", nil
	}
	if _, err := c.hashed(alg); err != nil {
		return "", err
	}
	return c.simpleWords(), nil
}

// simpleWords is for the commands whose parameters hashed has found sound.
func (c PolicyCommand) simpleWords() string {
	switch c.Code {
	case tpm2.TPMCCPolicyAuthValue:
		return "the key's secret"
	case tpm2.TPMCCPolicyPassword:
		return "the key's secret, sent as a password"
	case tpm2.TPMCCPolicyCommandCode:
		return "only for " + commandWords(tpm2.TPMCC(binary.BigEndian.Uint32(c.Policy)))
	case tpm2.TPMCCPolicyLocality:
		return localityWords(c.Policy[0])
	case tpm2.TPMCCPolicyOR:
		return fmt.Sprintf("what came before is one of %d policies", binary.BigEndian.Uint32(c.Policy))
	case tpm2.TPMCCPolicyCpHash:
		return "only for one command with certain parameters"
	case tpm2.TPMCCPolicyNameHash:
		return "only with certain objects"
	case tpm2.TPMCCPolicyTemplate:
		return "only to create objects by one template"
	case tpm2.TPMCCPolicyDuplicationSelect:
		return "only to duplicate the key to one new parent"
	case tpm2.TPMCCPolicyPhysicalPresence:
		return "somebody at the machine (physical presence)"
	case tpm2.TPMCCPolicyNvWritten:
		return "whether an NV index has been written"
	case tpm2.TPMCCPolicyCounterTimer:
		return "clock or restart counters of the TPM: " + c.timerWords()
	}
	return ""
}

func commandWords(code tpm2.TPMCC) string {
	if name, ok := usedCommands[code]; ok {
		return name
	}
	return fmt.Sprintf("command 0x%08x", uint32(code))
}

func localityWords(b byte) string {
	if b >= 32 {
		return fmt.Sprintf("locality %d", b)
	}
	var list []string
	for i := range 5 {
		if b>>i&1 != 0 {
			list = append(list, fmt.Sprint(i))
		}
	}
	if list == nil {
		return "no locality at all"
	}
	return "locality " + strings.Join(list, " or ")
}

// operations are how TPM2_PolicyCounterTimer compares.
//
// TPM 2.0 Library Part 2, section 6.8 (TPM_EO)
var operations = []string{"=", "≠", "> (signed)", ">", "< (signed)", "<", "≥ (signed)", "≥", "≤ (signed)", "≤", "has all bits of", "has no bits of"}

// timerWords knows the fields of a TPMS_TIME_INFO.
//
// TPM 2.0 Library Part 2, section 10.11.1 (TPMS_TIME_INFO)
func (c PolicyCommand) timerWords() string {
	operand, rest, err := c.counterTimer()
	if err != nil {
		return err.Error()
	}
	offset, operation := binary.BigEndian.Uint16(rest), int(binary.BigEndian.Uint16(rest[2:]))
	field := map[uint16]string{0: "time", 8: "clock", 16: "resetCount", 20: "restartCount", 24: "safe"}[offset]
	if field == "" {
		field = fmt.Sprintf("bytes from %d on", offset)
	}
	if operation >= len(operations) {
		return fmt.Sprintf("%s, comparison %d with 0x%x", field, operation, operand)
	}
	return fmt.Sprintf("%s %s 0x%x", field, operations[operation], operand)
}

func (c PolicyCommand) pcrWords(alg tpm2.TPMAlgID) (string, error) {
	p, err := c.PCR(alg)
	if err != nil {
		return "", err
	}
	var banks []string
	for _, bank := range p.Selection.PCRSelections {
		banks = append(banks, bankWords(bank))
	}
	if banks == nil {
		return "no PCRs at all", nil
	}
	return strings.Join(banks, "; "), nil
}

func bankWords(bank tpm2.TPMSPCRSelection) string {
	var list []string
	for i := range 8 * len(bank.PCRSelect) {
		if bank.PCRSelect[i/8]>>(i%8)&1 != 0 {
			list = append(list, fmt.Sprint(i))
		}
	}
	switch len(list) {
	case 0:
		return pubarea.BankName(bank.Hash) + ", no PCR"
	case 1:
		return pubarea.BankName(bank.Hash) + " PCR " + list[0]
	}
	return pubarea.BankName(bank.Hash) + " PCRs " + strings.Join(list, ", ")
}

func (c PolicyCommand) secretWords() (string, error) {
	p, err := c.Secret()
	if err != nil {
		return "", err
	}
	switch {
	case len(p.Name) == 4: // permanent entities have their handle as name
		return "the secret of " + hierarchyWords(binary.BigEndian.Uint32(p.Name)), nil
	case p.Handle != 0:
		return fmt.Sprintf("the secret of the object at 0x%08x", p.Handle), nil
	}
	return "the secret of the object " + nameWords(p.Name), nil
}

func (c PolicyCommand) authorizeWords() (string, error) {
	p, err := c.Authorize()
	if err != nil {
		return "", err
	}
	name, err := p.Name()
	if err != nil {
		return "", err
	}
	return "a policy signed by key " + nameWords(name), nil
}

// nameWords writes a name as "sha256:…".
func nameWords(name []byte) string {
	if len(name) < 2 {
		return hex.EncodeToString(name)
	}
	alg := tpm2.TPMAlgID(binary.BigEndian.Uint16(name))
	return pubarea.BankName(alg) + ":" + hex.EncodeToString(name[2:])
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
