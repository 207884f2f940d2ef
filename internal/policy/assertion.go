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

// A digest is the policyDigest of a policy session, computed in software. value is nil if only
// the TPM knows it. TPM 2.0 Library Part 1, section 19.7.2 (policyDigest).
type digest struct {
	hash  crypto.Hash
	value []byte
}

// newDigest returns the digest of a new session.
func newDigest(hash crypto.Hash) digest { return digest{hash, make([]byte, hash.Size())} }

func (d digest) known() bool { return d.value != nil }

// reset returns the digest after a command that resets it.
func (d digest) reset() digest { return newDigest(d.hash) }

// extend returns the digest after a command.
func (d digest) extend(code tpm2.TPMCC, data ...[]byte) digest {
	return d.append(append([][]byte{binary.BigEndian.AppendUint32(nil, uint32(code))}, data...)...)
}

// extendTwice returns the digest after a command with an entity's name and a policyRef. TPM 2.0
// Library Part 3, section 23.2.3 (Policy Digest Update Function).
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

// An assertion is one command of a policy.
//
// In a key file a command has the parameters that follow the session handle on the wire, except:
//
//	PolicyPCR           TPML_PCR_SELECTION, digest without its size; or as on the wire
//	PolicyCounterTimer  operandB without its size, offset, operation; or as on the wire
//	PolicyNV            authHandle, nvIndex, then as on the wire
//	PolicySecret        handle (0: search for it), TPM2B_NAME, TPM2B policyRef
//	PolicyAuthorize     TPM2B_PUBLIC, TPM2B policyRef, TPMT_SIGNATURE
//
// The last two are from draft-bottomley-tpm2-keys, sections 4.1.2 and 4.2. openssl_tpm2_engine
// writes the first two. PolicyNV follows what the draft says about handles.
type assertion interface {
	// extend returns the digest after the command.
	extend(d digest) digest
	// check returns an Unmet if the command cannot succeed after d.
	check(d digest) error
	// run runs the command.
	run(r *runner) error
	// describe returns a text that says what the command requires.
	describe() string
}

// A runtimeChecked assertion needs the TPM to find out whether it holds.
type runtimeChecked struct{}

func (runtimeChecked) check(digest) error { return nil }

// An unpredictable assertion extends the digest with data that is not in the file.
type unpredictable struct{}

func (unpredictable) extend(d digest) digest { return digest{d.hash, nil} }
func (unpredictable) describe() string       { return "" }

// parse parses a command. size is the digest size of the policy's hash algorithm.
func parse(c blob.PolicyCommand, size int) (assertion, error) {
	const maxBody = 2048 // commands have 4096 bytes at most on most TPMs
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

// Policy commands that are missing in go-tpm. TPM 2.0 Library Part 2 (version 1.83), section
// 6.5.2 (TPM_CC).
const (
	ccPolicyCapability tpm2.TPMCC = 0x19b
	ccPolicyParameters tpm2.TPMCC = 0x19c
)

// names are the names, without TPM2_, of policy commands and of commands that
// TPM2_PolicyCommandCode often names. TPM 2.0 Library Part 2, section 6.5.2 (TPM_CC).
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

// commandName returns a command's name in the specification.
func commandName(code tpm2.TPMCC) string {
	if name := names[code]; name != "" {
		return "TPM2_" + name
	}
	return fmt.Sprintf("TPM command %#x", uint32(code))
}

// predictable reports whether a command's parameters in a file determine how it extends the
// digest. Those of TPM2_PolicyNV, TPM2_PolicySigned and similar commands do not.
func predictable(code tpm2.TPMCC) bool {
	switch code {
	case tpm2.TPMCCPolicyNV, tpm2.TPMCCPolicySigned, tpm2.TPMCCPolicyTicket, tpm2.TPMCCPolicyAuthorizeNV:
		return false
	}
	return strings.HasPrefix(names[code], "Policy")
}

// A plainAssertion is a command that is sent as it is in the file.
type plainAssertion struct {
	runtimeChecked
	code   tpm2.TPMCC
	sent   tpm2.TPMCC // the command to send instead
	body   []byte     // sent after the session handle
	hashed []byte     // extends the digest
}

// parsePlain refuses commands that are not policy commands. Such a command, with the session
// handle in front, could do anything.
func parsePlain(c blob.PolicyCommand, size int) (assertion, error) {
	a := &plainAssertion{code: tpm2.TPMCC(c.Code), sent: tpm2.TPMCC(c.Code), body: c.Policy, hashed: c.Policy}
	var err error
	switch tpm2.TPMCC(c.Code) {
	case tpm2.TPMCCPolicyAuthValue, tpm2.TPMCCPolicyPassword, tpm2.TPMCCPolicyPhysicalPresence:
		if len(c.Policy) != 0 {
			err = errors.New("it has parameters, and takes none")
		}
		if tpm2.TPMCC(c.Code) == tpm2.TPMCCPolicyPassword {
			// The digest is the same, and the secret is not sent in clear. TPM 2.0 Library Part
			// 3, section 23.18 (TPM2_PolicyPassword).
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
	case tpm2.TPMCCPolicyTicket, ccPolicyCapability, ccPolicyParameters: // their digests are not computed here
	default:
		err = errors.New("it is not a policy command, or cannot be in a file")
	}
	if err != nil {
		return nil, err
	}
	return a, nil
}

// duplication parses the parameters. TPM 2.0 Library Part 3, section 23.15
// (TPM2_PolicyDuplicationSelect).
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
	if !predictable(a.code) {
		return unpredictable{}.extend(d)
	}
	return d.extend(a.sent, a.hashed)
}

func (a *plainAssertion) run(r *runner) error {
	authValue := a.sent == tpm2.TPMCCPolicyAuthValue
	if authValue && r.use.Secret == nil {
		return &Unmet{Why: "it needs the key's secret", Secret: true}
	}
	err := r.send(a.sent, a.body)
	if err == nil && authValue {
		r.session.NeedAuthValue()
		r.authValue = true
	}
	return asUnmet(err, "the TPM refuses %s", commandName(a.sent))
}

// AuthValue returns TPM2_PolicyAuthValue for a key file.
func AuthValue() blob.PolicyCommand {
	return blob.PolicyCommand{Code: uint32(tpm2.TPMCCPolicyAuthValue)}
}

// An orAssertion is TPM2_PolicyOR: the digest must be one of a list. TPM 2.0 Library Part 3,
// section 23.6 (TPM2_PolicyOR).
type orAssertion struct {
	body    []byte // TPML_DIGEST
	digests [][]byte
}

func parseOr(body []byte, size int) (assertion, error) {
	const minBranches, maxBranches = 2, 8 // branches of a TPM2_PolicyOR
	s := cryptobyte.String(body)
	var count uint32
	if !s.ReadUint32(&count) || count < minBranches || count > maxBranches {
		return nil, fmt.Errorf("it is not a list of %d to %d digests", minBranches, maxBranches)
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
		return nil, fmt.Errorf("%d bytes after its digests", len(s))
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
	return unmet(nil, "what precedes its TPM2_PolicyOR is none of the %d branches there", len(a.digests))
}

func (a *orAssertion) run(r *runner) error {
	err := r.send(tpm2.TPMCCPolicyOR, a.body)
	if hasCode(err, tpm2.TPMRCValue) {
		return unmet(err, "none of the %d branches of its TPM2_PolicyOR is met%s", len(a.digests), r.currentPCRs)
	}
	return asUnmet(err, "the TPM refuses TPM2_PolicyOR")
}

// A signedAssertion is TPM2_PolicySigned: a signature of the session's nonce, which cannot be in
// a file.
type signedAssertion struct {
	unpredictable
	name []byte
}

// parseSigned reads the signer's name if the parameters have the form that the draft defines for
// TPM2_PolicySecret. The draft defines none for TPM2_PolicySigned.
func parseSigned(body []byte) assertion {
	a := &signedAssertion{}
	if s, err := readSecret(body); err == nil {
		a.name = s.name
	}
	return a
}

func (a *signedAssertion) check(digest) error {
	if a.name == nil {
		return unmet(nil, "it needs a new signature by a key for each use (TPM2_PolicySigned), which is not supported")
	}
	return unmet(nil, "it needs a signature by key %x for each use (TPM2_PolicySigned), which is not supported", a.name)
}

func (a *signedAssertion) run(*runner) error { return a.check(digest{}) }
