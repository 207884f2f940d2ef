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

// A TPM runs policies. *tpm20.Conn implements it. errors.As finds the tpm2.TPMRC in an error of
// the TPM, and an interface with its Name.
type TPM interface {
	// Do calls execute, which executes a command and returns its reply.
	Do(cmd interface{ Command() tpm2.TPMCC }, execute func(transport.TPM) (reply any, err error)) error
	// Entity returns the name of an object or NV index, and whether the TPM counts wrong secrets
	// for it.
	Entity(tpm2.TPMHandle) (name []byte, counts bool, err error)
	// Handles returns the handles of one kind that are in use.
	Handles(first tpm2.TPMHandle) ([]tpm2.TPMHandle, error)
	Flush(tpm2.TPMHandle) error
}

// A Session is a policy session of a TPM. *tpm20.Session implements it.
type Session interface {
	Hash() crypto.Hash
	// Extend returns the handle for a command that changes the digest.
	Extend() (tpm2.TPMHandle, error)
	// Restart resets the session to its initial state. It sends nothing if it is in that state.
	Restart() error
	// NeedAuthValue records that TPM2_PolicyAuthValue was run.
	NeedAuthValue()
}

// A Use says what a policy is run for.
type Use struct {
	// Command is the command to authorize, 0 if it is not known yet.
	Command tpm2.TPMCC
	// Secret is the auth value given for the key: the key's own, or for a policy without
	// PolicyAuthValue and PolicyPassword the one for TPM2_PolicySecret, as in
	// openssl_tpm2_engine. nil means that none was given.
	Secret []byte
	// Authorize returns a session that proves a secret, for TPM2_PolicySecret.
	Authorize func(secret []byte) (tpm2.Session, error)
}

// Run runs the policy for one command, in a policy session with the hash algorithm Alg. It must
// be run again for each command. The session stays open, also after an error. auth is the auth
// value to use for the command.
//
// An error that is not an [Unmet] is from the TPM or the transport. TPM2_PolicySecret may give
// TPM_RC_AUTH_FAIL: then Secret was tried once.
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
	if p.used != nil { // the last command was not refused because of its policy
		clear(p.refused)
	}
	p.used = nil
	const attempts = 4
	for range attempts {
		r := &runner{policy: p, tpm: tpm, session: s, use: use}
		err = r.run()
		switch {
		case err == nil && r.authValue:
			p.used = r.signed
			return use.Secret, nil
		case err == nil:
			p.used = r.signed
			return nil, nil
		case !errors.Is(err, tpm2.TPMRCPCRChanged):
			clear(p.refused) // the next operation tries them again
			return nil, err
		}
	}
	return nil, unmet(err, "PCRs change all the time while it is run; try again")
}

// Explain converts an error of the authorized command to an Unmet, if the policy is the reason. If
// a signed policy is, Run tries the others next.
func (p *Policy) Explain(err error) error {
	for _, reason := range []struct {
		code tpm2.TPMRC
		why  string
	}{
		{tpm2.TPMRCPolicyFail, "the TPM says that it is not met, or is not the key's"},
		{tpm2.TPMRCPolicyCC, "it does not allow this command (TPM2_PolicyCommandCode)"},
		{tpm2.TPMRCLocality, "it requires another locality than this program's"},
		{tpm2.TPMRCPP, "it needs physical presence"},
		{tpm2.TPMRCExpired, "its authorization has expired"},
		{tpm2.TPMRCPCRChanged, "a PCR has changed since it was run; try again"},
	} {
		if errors.Is(err, reason.code) {
			another := p.used != nil
			if another {
				p.refused[p.used], p.used, p.last = reason.why, nil, nil
			}
			return &Unmet{Why: reason.why, Another: another, cause: err}
		}
	}
	return err
}

// A runner runs a policy once.
type runner struct {
	policy  *Policy
	tpm     TPM
	session Session
	use     Use

	digest      digest
	branches    []*branch // branches that are being run, the main one first
	signed      *branch   // the signed policy that was met, the innermost one; nil for none
	currentPCRs string    // text about PCRs whose present values were used
	secretUsed  bool      // TPM2_PolicySecret has used Secret
	authValue   bool      // TPM2_PolicyAuthValue was run
	steps       int
}

func (r *runner) run() error {
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
	if !bytes.Equal(value, r.policy.authPolicy) {
		return unmet(nil, "the policy of the file%s is not the one the key was made with (authPolicy)", r.currentPCRs)
	}
	return nil
}

func (r *runner) restart() error {
	r.digest = newDigest(r.policy.hash)
	r.currentPCRs, r.secretUsed, r.authValue, r.signed = "", false, false, nil
	return r.session.Restart()
}

func (r *runner) branch(b *branch) error {
	r.branches = append(r.branches, b)
	defer func() { r.branches = r.branches[:len(r.branches)-1] }()
	assertions := b.assertions
	if wildcard := b.wildcard(); wildcard != nil {
		if err := r.runSigned(wildcard); err != nil {
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

// current returns the session's digest. It asks the TPM if software does not know it.
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

// step counts the commands, to limit what a file can make the TPM do.
func (r *runner) step() error {
	if r.steps++; r.steps > maxSteps {
		return unmet(nil, "it is not met after %d commands", maxSteps)
	}
	return nil
}

// do executes one of go-tpm's commands.
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

// A rawCommand is a command that is marshalled here.
type rawCommand tpm2.TPMCC

// Command returns the command code.
func (c rawCommand) Command() tpm2.TPMCC { return tpm2.TPMCC(c) }

// send runs a command with the session handle and body as its parameters. It uses no session for
// authorization: nothing in it is secret, and if it is altered on the way, the digest is wrong.
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

// asUnmet converts the TPM's error about a policy command to an Unmet. It does not change errors
// about the session or the TPM.
func asUnmet(err error, format string, args ...any) error {
	var code interface {
		error
		Name() string // of its code in the specification
	}
	if !errors.As(err, &code) {
		return err
	}
	var about tpm2.TPMFmt1Error
	parameter := false
	if errors.As(code, &about) {
		parameter, _ = about.Parameter()
	}
	if !parameter && !hasCode(err, tpm2.TPMRCPolicy, tpm2.TPMRCPCR, tpm2.TPMRCCommandCode, tpm2.TPMRCExpired) {
		return err
	}
	return unmet(err, "%s: %s", fmt.Sprintf(format, args...), code.Name())
}

// hasCode reports whether err is the TPM's, with one of these codes.
func hasCode(err error, codes ...tpm2.TPMRC) bool {
	return slices.ContainsFunc(codes, func(code tpm2.TPMRC) bool { return errors.Is(err, code) })
}
