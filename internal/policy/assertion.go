package policy

import (
	"bytes"
	"crypto"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/google/go-tpm/tpm2"
	"golang.org/x/crypto/cryptobyte"

	"maclef/blob"
)

// A digest is the digest of a policy session, computed in software. Its value is nil
// where only the TPM knows it.
//
// TPM 2.0 Library Part 1, section 19.7.2 (policyDigest)
type digest struct {
	hash  crypto.Hash
	value []byte
}

// newDigest is that of a session that was just opened.
func newDigest(hash crypto.Hash) digest { return digest{hash, make([]byte, hash.Size())} }

func (d digest) known() bool { return d.value != nil }

// reset is d after a command that replaces what was before.
func (d digest) reset() digest { return newDigest(d.hash) }

// extend is d after a command.
func (d digest) extend(code tpm2.TPMCC, data ...[]byte) digest {
	return d.append(append([][]byte{binary.BigEndian.AppendUint32(nil, uint32(code))}, data...)...)
}

// extendTwice is d after a command that names somebody, with its policyRef.
//
// TPM 2.0 Library Part 3, section 23.2.3 (Policy Digest Update Function)
func (d digest) extendTwice(code tpm2.TPMCC, name, ref []byte) digest {
	return d.extend(code, name).append(ref)
}

func (d digest) append(data ...[]byte) digest {
	if !d.known() {
		return d
	}
	return digest{d.hash, sum(d.hash, append([][]byte{d.value}, data...)...)}
}

func sum(hash crypto.Hash, data ...[]byte) []byte {
	h := hash.New()
	for _, b := range data {
		h.Write(b)
	}
	return h.Sum(nil)
}

// An assertion is what one command of a policy says.
//
// In a key file the parameters of the command are what is sent behind the session's
// handle, but:
//
//	PolicyPCR           TPML_PCR_SELECTION, digest without its size; or as it is sent
//	PolicyCounterTimer  operandB without its size, offset, operation; or as it is sent
//	PolicyNV            authHandle, nvIndex, then as it is sent
//	PolicySecret        handle (0: look for it), TPM2B_NAME, TPM2B policyRef
//	PolicyAuthorize     TPM2B_PUBLIC, TPM2B policyRef, TPMT_SIGNATURE
//
// draft-bottomley-tpm2-keys, sections 4.1.2 and 4.2, has the last two; the first two
// are what openssl_tpm2_engine writes; TPM2_PolicyNV goes by what the draft says of
// handles.
type assertion interface {
	// extend is d after the command.
	extend(d digest) digest
	// check is an Unmet where the command cannot succeed after d.
	check(d digest) error
	// run runs the command.
	run(r *runner) error
	// describe says what must hold.
	describe() string
}

// A possible assertion may succeed for all that is known without a TPM.
type possible struct{}

func (possible) check(digest) error { return nil }

// An opaque assertion depends on more than what is in the file.
type opaque struct{}

func (opaque) extend(d digest) digest { return digest{d.hash, nil} }
func (opaque) describe() string       { return "" }

// parse reads a command. size is that of the policy's digests.
func parse(c blob.PolicyCommand, size int) (assertion, error) {
	const maxBody = 2048 // a TPM's commands have 4096 bytes, often less
	if len(c.Policy) > maxBody {
		return nil, fmt.Errorf("%d bytes, more than a TPM takes", len(c.Policy))
	}
	switch tpm2.TPMCC(c.Code) {
	case tpm2.TPMCCPolicyPCR:
		return parsePCR(c.Policy, size)
	case tpm2.TPMCCPolicyOR:
		return parseOr(c.Policy, size)
	case tpm2.TPMCCPolicySecret:
		return parseSecret(c.Policy)
	case tpm2.TPMCCPolicyAuthorize:
		return parseAuthorize(c.Policy)
	case tpm2.TPMCCPolicyNV:
		return parseNV(c.Policy)
	case tpm2.TPMCCPolicyCounterTimer:
		return parseTimer(c.Policy)
	case tpm2.TPMCCPolicySigned:
		return parseSigned(c.Policy), nil
	}
	return parsePlain(c, size)
}

// Policy commands that go-tpm has no names for. TPM 2.0 Library Part 2 (version 1.83),
// section 6.5.2 (TPM_CC).
const (
	ccPolicyCapability tpm2.TPMCC = 0x19b
	ccPolicyParameters tpm2.TPMCC = 0x19c
)

// names are those of policy commands, and of commands that a policy restricts a key to in
// practice, without TPM2_. TPM 2.0 Library Part 2, section 6.5.2 (TPM_CC).
var names = map[tpm2.TPMCC]string{
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

	tpm2.TPMCCSign:               "Sign",
	tpm2.TPMCCRSADecrypt:         "RSA_Decrypt",
	tpm2.TPMCCECDHZGen:           "ECDH_ZGen",
	tpm2.TPMCCUnseal:             "Unseal",
	tpm2.TPMCCDuplicate:          "Duplicate",
	tpm2.TPMCCActivateCredential: "ActivateCredential",
	tpm2.TPMCCCertify:            "Certify",
}

// commandName is a command's name in the specification.
func commandName(code tpm2.TPMCC) string {
	if name := names[code]; name != "" {
		return "TPM2_" + name
	}
	return fmt.Sprintf("TPM command %#x", uint32(code))
}

// understood reports whether the parameters of a policy command in a file say what it
// does. TPM2_PolicyNV, TPM2_PolicySigned and their like take more.
func understood(code tpm2.TPMCC) bool {
	switch code {
	case tpm2.TPMCCPolicyNV, tpm2.TPMCCPolicySigned, tpm2.TPMCCPolicyTicket, tpm2.TPMCCPolicyAuthorizeNV:
		return false
	}
	return strings.HasPrefix(names[code], "Policy")
}

// A plainAssertion is a command that is sent as it stands.
type plainAssertion struct {
	possible
	code   tpm2.TPMCC
	sent   tpm2.TPMCC // in its place
	body   []byte     // sent behind the session's handle
	hashed []byte     // what extends the digest
}

// parsePlain refuses commands that are no policy commands: with the session's handle
// in front they may do anything.
func parsePlain(c blob.PolicyCommand, size int) (assertion, error) {
	a := &plainAssertion{code: tpm2.TPMCC(c.Code), sent: tpm2.TPMCC(c.Code), body: c.Policy, hashed: c.Policy}
	var err error
	switch tpm2.TPMCC(c.Code) {
	case tpm2.TPMCCPolicyAuthValue, tpm2.TPMCCPolicyPassword, tpm2.TPMCCPolicyPhysicalPresence:
		if len(c.Policy) != 0 {
			err = errors.New("it has parameters, and takes none")
		}
		if tpm2.TPMCC(c.Code) == tpm2.TPMCCPolicyPassword {
			// The digest is the same, and the secret does not cross in clear. TPM 2.0
			// Library Part 3, section 23.18 (TPM2_PolicyPassword).
			a.sent = tpm2.TPMCCPolicyAuthValue
		}
	case tpm2.TPMCCPolicyLocality, tpm2.TPMCCPolicyNvWritten, tpm2.TPMCCPolicyCommandCode:
		want := 1
		if tpm2.TPMCC(c.Code) == tpm2.TPMCCPolicyCommandCode {
			want = 4
		}
		if len(c.Policy) != want {
			err = fmt.Errorf("it has %d bytes of parameters, not %d", len(c.Policy), want)
		}
	case tpm2.TPMCCPolicyNameHash, tpm2.TPMCCPolicyCpHash, tpm2.TPMCCPolicyTemplate:
		s, hashed := cryptobyte.String(c.Policy), cryptobyte.String(nil)
		if !s.ReadUint16LengthPrefixed(&hashed) || !s.Empty() || len(hashed) != size {
			err = fmt.Errorf("it is not a sized digest of %d bytes", size)
		}
		a.hashed = hashed
	case tpm2.TPMCCPolicyDuplicationSelect:
		err = a.duplication()
	case tpm2.TPMCCPolicyTicket, ccPolicyCapability, ccPolicyParameters: // with an effect that is not known
	default:
		err = errors.New("it is not one of a policy, or cannot be in a file")
	}
	if err != nil {
		return nil, err
	}
	return a, nil
}

// duplication is TPM 2.0 Library Part 3, section 23.15 (TPM2_PolicyDuplicationSelect).
func (a *plainAssertion) duplication() error {
	s := cryptobyte.String(a.body)
	var object, parent cryptobyte.String
	var include uint8
	if !s.ReadUint16LengthPrefixed(&object) || !s.ReadUint16LengthPrefixed(&parent) ||
		!s.ReadUint8(&include) || !s.Empty() || include > 1 {
		return errors.New("it is not two names and YES or NO")
	}
	a.hashed = nil
	if include == 1 {
		a.hashed = append(a.hashed, object...)
	}
	a.hashed = append(append(a.hashed, parent...), include)
	return nil
}

func (a *plainAssertion) extend(d digest) digest {
	if !understood(a.code) {
		return opaque{}.extend(d)
	}
	return d.extend(a.sent, a.hashed)
}

func (a *plainAssertion) run(r *runner) error {
	authValue := a.sent == tpm2.TPMCCPolicyAuthValue
	if authValue && r.use.Secret == nil {
		return &Unmet{Why: "it wants the key's secret", Secret: true}
	}
	err := r.send(a.sent, a.body)
	if err == nil && authValue {
		r.session.NeedAuthValue()
		r.authValue = true
	}
	return refused(err, "the TPM refuses %s", commandName(a.sent))
}

// AuthValue is TPM2_PolicyAuthValue as key files have it.
func AuthValue() blob.PolicyCommand { return blob.PolicyCommand{Code: uint32(tpm2.TPMCCPolicyAuthValue)} }

// An orAssertion is TPM2_PolicyOR: the digest before it must be one of a list's.
//
// TPM 2.0 Library Part 3, section 23.6
type orAssertion struct {
	body    []byte // TPML_DIGEST
	digests [][]byte
}

func parseOr(body []byte, size int) (assertion, error) {
	const least, most = 2, 8 // branches that a TPM takes
	s := cryptobyte.String(body)
	var count uint32
	if !s.ReadUint32(&count) || count < least || count > most {
		return nil, fmt.Errorf("it is not a list of %d to %d digests", least, most)
	}
	a := &orAssertion{body: body}
	for range count {
		var one cryptobyte.String
		if !s.ReadUint16LengthPrefixed(&one) || len(one) != size {
			return nil, fmt.Errorf("it has a digest that is not of %d bytes", size)
		}
		a.digests = append(a.digests, one)
	}
	if !s.Empty() {
		return nil, fmt.Errorf("%d bytes behind its digests", len(s))
	}
	return a, nil
}

func (a *orAssertion) extend(d digest) digest {
	return d.reset().extend(tpm2.TPMCCPolicyOR, a.digests...)
}

func (a *orAssertion) check(d digest) error {
	if !d.known() || slices.ContainsFunc(a.digests, func(one []byte) bool { return bytes.Equal(one, d.value) }) {
		return nil
	}
	return unmet(nil, "what comes before its TPM2_PolicyOR is none of the %d branches there", len(a.digests))
}

func (a *orAssertion) run(r *runner) error {
	err := r.send(tpm2.TPMCCPolicyOR, a.body)
	if says(err, tpm2.TPMRCValue) {
		return unmet(err, "none of the %d branches of its TPM2_PolicyOR is met%s", len(a.digests), r.asIs)
	}
	return refused(err, "the TPM refuses TPM2_PolicyOR")
}

// A signedAssertion is TPM2_PolicySigned: a signature of the session's nonce, which no
// file can hold.
type signedAssertion struct {
	opaque
	name []byte
}

// parseSigned looks for the signer's name, in the form that files have it in for
// TPM2_PolicySecret. The draft has none for TPM2_PolicySigned.
func parseSigned(body []byte) assertion {
	a := &signedAssertion{}
	if s, err := readSecret(body); err == nil {
		a.name = s.name
	}
	return a
}

func (a *signedAssertion) check(digest) error {
	if a.name == nil {
		return unmet(nil, "it asks for a new signature by somebody's key for each use (TPM2_PolicySigned), which cannot be given here")
	}
	return unmet(nil, "it asks for a signature by key %x for each use (TPM2_PolicySigned), which cannot be given here", a.name)
}

func (a *signedAssertion) run(*runner) error { return a.check(digest{}) }
