package tpm20_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"slices"
	"testing"

	"github.com/google/go-tpm/tpm2"

	"maclef/internal/policy"
	"maclef/internal/tpm20"
	"maclef/internal/tpmtest"
)

// A policyRig is a TPM with a parent and a policy session.
type policyRig struct {
	t       *testing.T
	conn    *tpm20.Conn
	tap     *tpmtest.Tap
	sw      *tpmtest.SWTPM
	parent  *tpm20.Object
	session *tpm20.Session
	salted  *tpm20.Session
	loaded  *tpm20.Object // the key
}

func newPolicyRig(t *testing.T) *policyRig {
	conn, tap, sw := start(t)
	g := &policyRig{t: t, conn: conn, tap: tap, sw: sw, parent: primary(t, conn, false)}
	g.salted = session(t, conn, g.parent)
	var err error
	if g.session, err = conn.StartPolicy(g.parent); err != nil {
		t.Fatal(err)
	}
	return g
}

// key makes and loads a key that its policy alone authorizes, in place of the last one.
func (g *policyRig) key(want []byte, secret string) *tpm20.Object {
	g.t.Helper()
	template := eccKey
	template.ObjectAttributes.UserWithAuth = false
	template.AuthPolicy.Buffer = want
	if g.loaded != nil {
		g.conn.Flush(g.loaded.Handle)
	}
	g.loaded = create(g.t, g.conn, g.parent, template, secret)
	return g.loaded
}

// sign runs the policy and signs.
func (g *policyRig) sign(key *tpm20.Object, p *tpm20.Policy, secret []byte) error {
	g.t.Helper()
	auth, err := p.Run(g.conn, g.session, tpm20.PolicyUse{
		Command: tpm2.TPMCCSign, Secret: secret, HMAC: func() (*tpm20.Session, error) { return g.salted, nil },
	})
	if err != nil {
		return err
	}
	scheme := tpm2.TPMTSigScheme{Scheme: tpm2.TPMAlgECDSA,
		Details: tpm2.NewTPMUSigScheme(tpm2.TPMAlgECDSA, &tpm2.TPMSSchemeHash{HashAlg: tpm2.TPMAlgSHA256})}
	sig, err := g.conn.Sign(key, g.session.For(auth, 0), scheme, message[:])
	if err == nil {
		verify(g.t, key, message[:], sig)
	}
	return p.Explain(err)
}

func (g *policyRig) policy(want []byte, commands []tpm20.PolicyCommand, signed ...tpm20.SignedPolicy) *tpm20.Policy {
	g.t.Helper()
	p, err := tpm20.NewPolicy(tpm2.TPMAlgSHA256, want, commands, signed)
	if err != nil {
		g.t.Fatal(err)
	}
	return p
}

// pcr is TPM2_PolicyPCR for values as they are now.
func (g *policyRig) pcr(pcrs ...int) tpm20.PolicyCommand {
	g.t.Helper()
	selection := selectPCRs(pcrs...)
	digest, err := g.conn.PCRDigest(tpm2.TPMAlgSHA256, selection)
	if err != nil {
		g.t.Fatal(err)
	}
	return tpm20.PolicyPCR(selection, digest)
}

func selectPCRs(pcrs ...int) []policy.PCRSelection {
	var bits uint32
	for _, pcr := range pcrs {
		bits |= 1 << pcr
	}
	return []policy.PCRSelection{{Bank: tpm2.TPMAlgSHA256, PCRs: bits}}
}

func (g *policyRig) extend(pcr int) {
	g.t.Helper()
	digest := tpm2.TPMTHA{HashAlg: tpm2.TPMAlgSHA256, Digest: make([]byte, 32)}
	digest.Digest[0] = 1
	_, err := tpm20.Run(g.conn, tpm2.PCRExtend{
		PCRHandle: tpm2.AuthHandle{Handle: tpm2.TPMHandle(pcr), Auth: tpm2.PasswordAuth(nil)},
		Digests:   tpm2.TPMLDigestValues{Digests: []tpm2.TPMTHA{digest}},
	})
	if err != nil {
		g.t.Fatal(err)
	}
}

func (g *policyRig) reset(pcr int) {
	g.t.Helper()
	_, err := tpm20.Run(g.conn, tpm2.PCRReset{
		PCRHandle: tpm2.AuthHandle{Handle: tpm2.TPMHandle(pcr), Auth: tpm2.PasswordAuth(nil)},
	})
	if err != nil {
		g.t.Fatal(err)
	}
}

// codes are the codes of the commands since the first n.
func (g *policyRig) codes(n int) []uint32 {
	var all []uint32
	for _, e := range g.tap.Exchanges()[n:] {
		all = append(all, e.Ordinal)
	}
	return all
}

// crossed reports whether a secret was in a command as it is.
func (g *policyRig) crossed(secret string) bool {
	return slices.ContainsFunc(g.tap.Exchanges(), func(e tpmtest.Exchange) bool {
		return bytes.Contains(e.Command, []byte(secret))
	})
}

// tries is how many wrong secrets the TPM has counted.
func (g *policyRig) tries() uint32 {
	g.t.Helper()
	all, err := g.conn.Properties(tpm2.TPMPTPermanent)
	if err != nil {
		g.t.Fatal(err)
	}
	return all[tpm2.TPMPTLockoutCounter]
}

// authPolicy is what a key has for commands.
func authPolicy(t testing.TB, commands ...tpm20.PolicyCommand) []byte {
	t.Helper()
	d, err := tpm20.PolicyDigest(tpm2.TPMAlgSHA256, commands...)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func wantUnmet(t testing.TB, err error, why string) {
	t.Helper()
	var unmet *tpm20.Unmet
	if !errors.As(err, &unmet) || err.Error() != why {
		t.Errorf("the policy gave %v, want %q", err, why)
	}
}

func command(code tpm2.TPMCC, body ...byte) tpm20.PolicyCommand {
	return tpm20.PolicyCommand{Code: code, Body: body}
}

// or is TPM2_PolicyOR.
func or(digests ...[]byte) tpm20.PolicyCommand {
	body := binary.BigEndian.AppendUint32(nil, uint32(len(digests)))
	for _, d := range digests {
		body = append(body, sized(d)...)
	}
	return tpm20.PolicyCommand{Code: tpm2.TPMCCPolicyOR, Body: body}
}

func sized(b []byte) []byte { return append(binary.BigEndian.AppendUint16(nil, uint16(len(b))), b...) }

// secretOf is TPM2_PolicySecret.
func secretOf(handle tpm2.TPMHandle, name, ref []byte) tpm20.PolicyCommand {
	body := binary.BigEndian.AppendUint32(nil, uint32(handle))
	return tpm20.PolicyCommand{Code: tpm2.TPMCCPolicySecret, Body: slices.Concat(body, sized(name), sized(ref))}
}

// A policySigner signs policies as openssl_tpm2_engine's signed_tpm2_policy does.
type policySigner struct{ *tpmtest.PolicySigner }

func newPolicySigner(t testing.TB, kind tpm2.TPMAlgID) *policySigner {
	return &policySigner{tpmtest.NewPolicySigner(t, kind)}
}

// opening is the command that a key has for s to sign policies.
func (s *policySigner) opening() tpm20.PolicyCommand {
	return tpm20.PolicyCommand{Code: tpm2.TPMCCPolicyAuthorize, Body: s.Opening()}
}

// signs is a signed policy.
func (s *policySigner) signs(t testing.TB, name string, commands ...tpm20.PolicyCommand) tpm20.SignedPolicy {
	t.Helper()
	return s.signsDigest(t, authPolicy(t, commands...), name, commands...)
}

func (s *policySigner) signsDigest(t testing.TB, approved []byte, name string, commands ...tpm20.PolicyCommand) tpm20.SignedPolicy {
	t.Helper()
	closing := tpm20.PolicyCommand{Code: tpm2.TPMCCPolicyAuthorize, Body: s.Closing(t, approved)}
	return tpm20.SignedPolicy{Name: name, Commands: append(slices.Clone(commands), closing)}
}
