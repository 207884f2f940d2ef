package policy

import (
	"bytes"
	"crypto"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"
)

// A TPM is what a policy is run on, such as a *tpm20.Conn. A refusal of the TPM is an
// error in which errors.As finds its tpm2.TPMRC, and a Name of that.
type TPM interface {
	// Do has execute execute a command of go-tpm's, and return its reply.
	Do(cmd interface{ Command() tpm2.TPMCC }, execute func(transport.TPM) (reply any, err error)) error
	// Entity is the name of an object or NV index, and whether wrong secrets of it count
	// towards a lockout.
	Entity(tpm2.TPMHandle) (name []byte, counts bool, err error)
	// Handles are those in use of one kind.
	Handles(first tpm2.TPMHandle) ([]tpm2.TPMHandle, error)
	Flush(tpm2.TPMHandle) error
}

// A Session is a policy session of a TPM, such as a *tpm20.Session.
type Session interface {
	Hash() crypto.Hash
	// Extend is its handle for a command that changes its digest.
	Extend() (tpm2.TPMHandle, error)
	// Restart makes it as one that was just opened; it sends nothing where it is.
	Restart() error
	// NeedAuthValue says that TPM2_PolicyAuthValue was run in it.
	NeedAuthValue()
}

// A Use is what a policy is run for.
type Use struct {
	// Command is the one that follows; 0 where it is not known yet.
	Command tpm2.TPMCC
	// Secret is the auth value that belongs to the key: its own or, where the policy
	// asks for none of its own, the one TPM2_PolicySecret wants, as in
	// openssl_tpm2_engine. nil is none at hand, empty one that is empty.
	Secret []byte
	// Authorize gives a session that proves a secret to TPM2_PolicySecret.
	Authorize func(secret []byte) (tpm2.Session, error)
}

// Run runs the policy in a policy session of its Alg, for one use of the key in the same
// session; it is run anew for each. The session goes on, also after an error. auth is
// what the use takes as the key's auth value.
//
// An error that is no [Unmet] is of the TPM, or of the way to it; from
// TPM2_PolicySecret it may be TPM_RC_AUTH_FAIL: the one try that Secret has had.
func (p *Policy) Run(tpm TPM, s Session, use Use) (auth []byte, err error) {
	if err := p.Check(); err != nil {
		return nil, err
	}
	if err := p.main.allows(use.Command); err != nil {
		return nil, err
	}
	if s.Hash() != p.hash {
		return nil, fmt.Errorf("the policy needs a session of %v, and was given one of %v", p.hash, s.Hash())
	}
	const attempts = 4
	for range attempts {
		r := &runner{policy: p, tpm: tpm, session: s, use: use}
		err = r.all()
		switch {
		case err == nil && r.authValue:
			return use.Secret, nil
		case err == nil:
			return nil, nil
		case !errors.Is(err, tpm2.TPMRCPCRChanged):
			return nil, err
		}
	}
	return nil, unmet(err, "PCRs change all the time while it is run; try again")
}

// Explain puts a refusal of the command that the policy was run for in words, where
// the policy is the reason.
func (p *Policy) Explain(err error) error {
	for _, reason := range []struct {
		code tpm2.TPMRC
		why  string
	}{
		{tpm2.TPMRCPolicyFail, "the TPM finds it is not what the key was made with, or not met"},
		{tpm2.TPMRCPolicyCC, "it does not allow this command (TPM2_PolicyCommandCode)"},
		{tpm2.TPMRCLocality, "it wants another locality than the one this program speaks from"},
		{tpm2.TPMRCPP, "it wants physical presence"},
		{tpm2.TPMRCExpired, "its authorization has expired"},
		{tpm2.TPMRCPCRChanged, "a PCR has changed since it was run; try again"},
	} {
		if errors.Is(err, reason.code) {
			return unmet(err, "%s", reason.why)
		}
	}
	return err
}

// A runner is a policy being run.
type runner struct {
	policy  *Policy
	tpm     TPM
	session Session
	use     Use

	digest    digest
	branches  []*branch // under way, the main one first
	asIs      string    // PCRs of which any values will do, said in words
	spent     bool      // Secret was given to TPM2_PolicySecret
	authValue bool      // TPM2_PolicyAuthValue was run
	steps     int
}

func (r *runner) all() error {
	if err := r.restart(); err != nil {
		return err
	}
	if err := r.branch(r.policy.main); err != nil {
		return err
	}
	value, err := r.current()
	if err != nil {
		return err
	}
	if !bytes.Equal(value, r.policy.want) {
		return unmet(nil, "the policy of the file%s is not the one the key was made with (authPolicy)", r.asIs)
	}
	return nil
}

func (r *runner) restart() error {
	r.digest = newDigest(r.policy.hash)
	r.asIs, r.spent, r.authValue = "", false, false
	return r.session.Restart()
}

func (r *runner) branch(b *branch) error {
	r.branches = append(r.branches, b)
	defer func() { r.branches = r.branches[:len(r.branches)-1] }()
	assertions := b.assertions
	if wildcard := b.wildcard(); wildcard != nil {
		if err := r.approve(wildcard); err != nil {
			return err
		}
		assertions = assertions[1:]
	}
	for _, a := range assertions {
		if err := a.run(r); err != nil {
			return err
		}
		r.digest = a.extend(r.digest)
	}
	return nil
}

// current is the session's digest; the TPM is asked where software cannot tell.
func (r *runner) current() ([]byte, error) {
	if r.digest.known() {
		return r.digest.value, nil
	}
	session, err := r.session.Extend()
	if err != nil {
		return nil, err
	}
	rsp, err := do(r.tpm, tpm2.PolicyGetDigest{PolicySession: session})
	if err != nil {
		return nil, err
	}
	r.digest.value = rsp.PolicyDigest.Buffer
	return r.digest.value, nil
}

// step bounds what a file can make the TPM do.
func (r *runner) step() error {
	if r.steps++; r.steps > maxSteps {
		return unmet(nil, "it is not met after %d commands", maxSteps)
	}
	return nil
}

// do executes a command of go-tpm's.
func do[R any](tpm TPM, cmd tpm2.Command[R, *R]) (rsp *R, err error) {
	err = tpm.Do(cmd, func(t transport.TPM) (any, error) {
		rsp, err = cmd.Execute(t)
		return rsp, err
	})
	if err != nil {
		return nil, err
	}
	return rsp, nil
}

// A rawCommand is a command of which go-tpm need not know more than the code.
type rawCommand tpm2.TPMCC

// Command is the command's code.
func (c rawCommand) Command() tpm2.TPMCC { return tpm2.TPMCC(c) }

// send runs a command that takes the session and then body, and returns nothing. It goes
// without sessions: nothing in it is secret, and what is changed on the way makes another
// digest.
func (r *runner) send(code tpm2.TPMCC, body []byte) error {
	if err := r.step(); err != nil {
		return err
	}
	session, err := r.session.Extend()
	if err != nil {
		return err
	}
	const header = 2 + 4 + 4 // tag, size, code
	b := binary.BigEndian.AppendUint16(nil, uint16(tpm2.TPMSTNoSessions))
	b = binary.BigEndian.AppendUint32(b, uint32(header+4+len(body)))
	b = binary.BigEndian.AppendUint32(b, uint32(code))
	b = append(binary.BigEndian.AppendUint32(b, uint32(session)), body...)
	return r.tpm.Do(rawCommand(code), func(t transport.TPM) (any, error) {
		_, err := t.Send(b)
		return &struct{}{}, err
	})
}

// refused makes the TPM's refusal of a policy command an Unmet. Others are about the
// session or the TPM: those stay as they are.
func refused(err error, format string, args ...any) error {
	var refusal interface {
		error
		Name() string // of its code in the specification
	}
	if !errors.As(err, &refusal) {
		return err
	}
	var about tpm2.TPMFmt1Error
	parameter := false
	if errors.As(refusal, &about) {
		parameter, _ = about.Parameter()
	}
	if !parameter && !says(err, tpm2.TPMRCPolicy, tpm2.TPMRCPCR, tpm2.TPMRCCommandCode, tpm2.TPMRCExpired) {
		return err
	}
	return unmet(err, "%s: %s", fmt.Sprintf(format, args...), refusal.Name())
}

// says reports whether the TPM has refused with one of these codes.
func says(err error, codes ...tpm2.TPMRC) bool {
	return slices.ContainsFunc(codes, func(code tpm2.TPMRC) bool { return errors.Is(err, code) })
}
