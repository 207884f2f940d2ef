package tpm20

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"maclef/internal/policy"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"
)

// A PolicyUse is what a policy is run for.
type PolicyUse struct {
	// Command is the one that follows; 0 where it is not known yet.
	Command tpm2.TPMCC
	// Secret is the auth value that belongs to the key: its own or, where the policy
	// asks for none of its own, the one TPM2_PolicySecret wants, as in
	// openssl_tpm2_engine. nil is none at hand, empty one that is empty.
	Secret []byte
	// HMAC gives a session that TPM2_PolicySecret can be authorized in with Secret.
	HMAC func() (*Session, error)
}

// Run runs the policy in a policy session of its Hash, for one use of the key in the same
// session; it is run anew for each. The session goes on, also after an error. auth is
// what the use takes as the key's auth value: [Session.For].
//
// An error that is no [Unmet] is of the TPM, or of the way to it; from
// TPM2_PolicySecret it may be TPM_RC_AUTH_FAIL: the one try that Secret has had.
func (p *Policy) Run(c *Conn, s *Session, use PolicyUse) (auth []byte, err error) {
	if err := p.Check(); err != nil {
		return nil, err
	}
	if !p.main.allows(use.Command) {
		return nil, notAllowed(use.Command)
	}
	if hash, _ := policyHash(p.alg); s.hash != hash {
		return nil, fmt.Errorf("the policy needs a session of %v, and was given one of %v", hash, s.hash)
	}
	const attempts = 4
	for range attempts {
		r := &policyRun{policy: p, conn: c, session: s, use: use}
		err = r.all()
		switch {
		case err == nil:
			return r.auth(), nil
		case !errors.Is(err, tpm2.TPMRCPCRChanged):
			return nil, err
		}
	}
	return nil, unmet(err, "PCRs change all the time while it is run; try again")
}

func notAllowed(use tpm2.TPMCC) error {
	return unmet(nil, "it does not allow %s (TPM2_PolicyCommandCode)", commandName(use))
}

// Explain puts a refusal of the command that the policy was run for in words, where
// the policy is the reason.
func (p *Policy) Explain(err error) error {
	switch {
	case errors.Is(err, tpm2.TPMRCPolicyFail):
		return unmet(err, "the TPM finds it is not what the key was made with, or not met")
	case errors.Is(err, tpm2.TPMRCPolicyCC):
		return unmet(err, "it does not allow this command (TPM2_PolicyCommandCode)")
	case errors.Is(err, tpm2.TPMRCLocality):
		return unmet(err, "it wants another locality than the one this program speaks from")
	case errors.Is(err, tpm2.TPMRCPP):
		return unmet(err, "it wants physical presence")
	case errors.Is(err, tpm2.TPMRCExpired):
		return unmet(err, "its authorization has expired")
	case errors.Is(err, tpm2.TPMRCPCRChanged):
		return unmet(err, "a PCR has changed since it was run; try again")
	}
	return err
}

// A policyRun is a policy being run.
type policyRun struct {
	policy  *Policy
	conn    *Conn
	session *Session
	use     PolicyUse

	digest   policyDigest
	branches []*branch // under way, the main one first
	asIs     string    // PCRs of which any values will do, said in words
	spent    bool      // Secret was given to TPM2_PolicySecret
	steps    int
}

// auth is what the use proves.
func (r *policyRun) auth() []byte {
	if !r.session.needAuth {
		return nil
	}
	return r.use.Secret
}

func (r *policyRun) all() error {
	if err := r.restart(); err != nil {
		return err
	}
	if err := r.branch(r.policy.main); err != nil {
		return err
	}
	digest, err := r.current()
	if err != nil {
		return err
	}
	if !bytes.Equal(digest, r.policy.want) {
		return unmet(nil, "the policy of the file%s is not the one the key was made with (authPolicy)", r.asIs)
	}
	return nil
}

// restart makes the session as one that was just opened.
//
// TPM 2.0 Library Part 3, section 11.2 (TPM2_PolicyRestart)
func (r *policyRun) restart() error {
	if r.session.ran {
		if err := r.send(tpm2.TPMCCPolicyRestart, nil); err != nil {
			return err
		}
	}
	r.session.ran, r.session.needAuth = false, false
	r.digest = newPolicyDigest(r.policy.alg)
	r.asIs, r.spent = "", false
	return nil
}

func (r *policyRun) branch(b *branch) error {
	r.branches = append(r.branches, b)
	defer func() { r.branches = r.branches[:len(r.branches)-1] }()
	terms := b.terms
	if opening := b.opening(); opening != nil {
		if err := r.approve(opening); err != nil {
			return err
		}
		terms = terms[1:]
	}
	for _, t := range terms {
		if err := t.run(r); err != nil {
			return err
		}
		r.digest = t.extend(r.digest)
	}
	return nil
}

// current is the session's digest; the TPM is asked where software cannot tell.
func (r *policyRun) current() ([]byte, error) {
	if r.digest.known() {
		return r.digest.value, nil
	}
	rsp, err := Run(r.conn, tpm2.PolicyGetDigest{PolicySession: r.session.handle})
	if err != nil {
		return nil, err
	}
	r.digest.value = rsp.PolicyDigest.Buffer
	return r.digest.value, nil
}

// step bounds what a file can make the TPM do.
func (r *policyRun) step() error {
	if r.steps++; r.steps > maxPolicySteps {
		return unmet(nil, "it is not met after %d commands", maxPolicySteps)
	}
	return nil
}

// send runs a command that takes the session and then body, and returns nothing.
func (r *policyRun) send(code tpm2.TPMCC, body []byte) error {
	if err := r.step(); err != nil {
		return err
	}
	if !r.session.Alive() {
		return ErrSessionEnded
	}
	r.session.ran = true
	_, err := Run(r.conn, policyCommand{code, r.session.handle, body})
	return err
}

// explain makes the TPM's refusal of a policy command an Unmet. Others are about the
// session or the TPM: those stay as they are.
func (r *policyRun) explain(err error, format string, args ...any) error {
	var refused *Error
	if !errors.As(err, &refused) {
		return err
	}
	var about tpm2.TPMFmt1Error
	parameter := false
	if refused.code().As(&about) {
		parameter, _ = about.Parameter()
	}
	if !parameter && !says(err, tpm2.TPMRCPolicy, tpm2.TPMRCPCR, tpm2.TPMRCCommandCode, tpm2.TPMRCExpired) {
		return err
	}
	return unmet(err, "%s: %s", fmt.Sprintf(format, args...), refused.Name())
}

// says reports whether the TPM has refused with one of these codes.
func says(err error, codes ...tpm2.TPMRC) bool {
	var refused *Error
	if !errors.As(err, &refused) {
		return false
	}
	for _, code := range codes {
		if errors.Is(refused, code) {
			return true
		}
	}
	return false
}

// missingBank is a bank that is selected from and that the TPM has not, 0 for none.
func (r *policyRun) missingBank(selection []policy.PCRSelection) tpm2.TPMIAlgHash {
	banks, err := r.conn.PCRBanks()
	if err != nil {
		return 0
	}
	for _, s := range selection {
		found := s.PCRs == 0
		for _, bank := range banks {
			found = found || bank.Bank == s.Bank
		}
		if !found {
			return s.Bank
		}
	}
	return 0
}

// A policyCommand is a command of the policy session, go-tpm's Command. Its bytes are
// the file's, and go-tpm does not know all of them.
type policyCommand struct {
	code    tpm2.TPMCC
	session tpm2.TPMHandle
	body    []byte
}

// Command is the command's code.
func (p policyCommand) Command() tpm2.TPMCC { return p.code }

// Execute sends it without sessions: nothing in it is secret, and what is changed on
// the way makes another digest.
func (p policyCommand) Execute(t transport.TPM, _ ...tpm2.Session) (*struct{}, error) {
	b := binary.BigEndian.AppendUint16(nil, uint16(tpm2.TPMSTNoSessions))
	b = binary.BigEndian.AppendUint32(b, uint32(headerSize+4+len(p.body)))
	b = binary.BigEndian.AppendUint32(b, uint32(p.code))
	b = binary.BigEndian.AppendUint32(b, uint32(p.session))
	if _, err := t.Send(append(b, p.body...)); err != nil {
		return nil, err
	}
	return &struct{}{}, nil
}
