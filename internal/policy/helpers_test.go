package policy_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"math/big"
	"slices"
	"testing"
	"time"

	"github.com/google/go-tpm/tpm2"

	"maclef/blob"
	"maclef/internal/policy"
	"maclef/internal/tpm20"
	"maclef/internal/tpmtest"
	"maclef/internal/transport"
)

// A policyRig is a TPM with a parent and a policy session.
type policyRig struct {
	t       *testing.T
	conn    *tpm20.Conn
	tap     *tpmtest.Tap
	parent  *tpm20.Object
	session *tpm20.Session
	salted  *tpm20.Session
	loaded  *tpm20.Object // the key
}

func newPolicyRig(t *testing.T) *policyRig {
	t.Helper()
	dev, err := transport.Open(tpmtest.Start(t, tpmtest.TPM20).Socket, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	g := &policyRig{t: t, tap: tpmtest.NewTap(dev)}
	t.Cleanup(func() { g.tap.Close() })
	g.conn = tpm20.New(g.tap)
	g.begin()
	return g
}

// begin makes the parent and opens the sessions.
func (g *policyRig) begin() {
	g.t.Helper()
	template := tpm2.ECCSRKTemplate
	template.Unique = tpm2.NewTPMUPublicID(tpm2.TPMAlgECC, &tpm2.TPMSECCPoint{})
	var err error
	if g.parent, err = g.conn.CreatePrimary(tpm2.TPMRHOwner, nil, template); err != nil {
		g.t.Fatal(err)
	}
	if g.salted, err = g.conn.StartHMAC(g.parent, nil, nil); err != nil {
		g.t.Fatal(err)
	}
	if g.session, err = g.conn.StartPolicy(tpm2.TPMAlgSHA256, g.parent); err != nil {
		g.t.Fatal(err)
	}
}

// eccKey is a key that signs.
var eccKey = tpm2.TPMTPublic{
	Type: tpm2.TPMAlgECC, NameAlg: tpm2.TPMAlgSHA256,
	ObjectAttributes: tpm2.TPMAObject{
		FixedTPM: true, FixedParent: true, SensitiveDataOrigin: true, UserWithAuth: true, SignEncrypt: true, Decrypt: true,
	},
	Parameters: tpm2.NewTPMUPublicParms(tpm2.TPMAlgECC, &tpm2.TPMSECCParms{CurveID: tpm2.TPMECCNistP256}),
}

// create makes a key with a secret, and loads it.
func (g *policyRig) create(template tpm2.TPMTPublic, secret string) *tpm20.Object {
	g.t.Helper()
	private, public, err := g.conn.Create(g.parent, g.salted.For(nil, tpm20.EncryptIn), []byte(secret), nil, template)
	if err != nil {
		g.t.Fatal(err)
	}
	o, err := g.conn.Load(g.parent, nil, private, public)
	if err != nil {
		g.t.Fatal(err)
	}
	return o
}

var message = sha256.Sum256([]byte("what is signed"))

// key makes and loads a key that its policy alone authorizes, in place of the last one.
func (g *policyRig) key(want []byte, secret string) *tpm20.Object {
	g.t.Helper()
	template := eccKey
	template.ObjectAttributes.UserWithAuth = false
	template.AuthPolicy.Buffer = want
	if g.loaded != nil {
		g.conn.Flush(g.loaded.Handle)
	}
	g.loaded = g.create(template, secret)
	return g.loaded
}

// sign runs the policy and signs.
func (g *policyRig) sign(key *tpm20.Object, p *policy.Policy, secret []byte) error {
	g.t.Helper()
	auth, err := p.Run(g.conn, g.session, policy.Use{
		Command: tpm2.TPMCCSign, Secret: secret,
		Authorize: func(secret []byte) (tpm2.Session, error) { return g.salted.For(secret, 0), nil },
	})
	if err != nil {
		return err
	}
	scheme := tpm2.TPMTSigScheme{Scheme: tpm2.TPMAlgECDSA,
		Details: tpm2.NewTPMUSigScheme(tpm2.TPMAlgECDSA, &tpm2.TPMSSchemeHash{HashAlg: tpm2.TPMAlgSHA256})}
	sig, err := g.conn.Sign(key, g.session.For(auth, 0), scheme, message[:], nil)
	if err != nil {
		return p.Explain(err)
	}
	public, err := tpm2.Pub(*key.Public)
	if err != nil {
		g.t.Fatal(err)
	}
	ecc, err := sig.Signature.ECDSA()
	if err != nil {
		g.t.Fatal(err)
	}
	if !ecdsa.Verify(public.(*ecdsa.PublicKey), message[:], new(big.Int).SetBytes(ecc.SignatureR.Buffer), new(big.Int).SetBytes(ecc.SignatureS.Buffer)) {
		g.t.Error("a wrong signature")
	}
	return nil
}

func (g *policyRig) policy(want []byte, commands []blob.PolicyCommand, signed ...blob.AuthPolicy) *policy.Policy {
	g.t.Helper()
	p, err := policy.New(tpm2.TPMAlgSHA256, want, commands, signed)
	if err != nil {
		g.t.Fatal(err)
	}
	return p
}

// pcr is TPM2_PolicyPCR for values as they are now.
func (g *policyRig) pcr(pcrs ...int) blob.PolicyCommand {
	g.t.Helper()
	c, err := policy.PCRs(tpm2.TPMAlgSHA256, selectPCRs(pcrs...), g.conn.PCRRead)
	if err != nil {
		g.t.Fatal(err)
	}
	return c
}

// pcrs is TPM2_PolicyPCR for values that have a digest.
func pcrs(selection []policy.PCRSelection, digest []byte) blob.PolicyCommand {
	c, err := policy.PCRs(tpm2.TPMAlgSHA256, selection, func(tpm2.TPMIAlgHash, []int) (map[int][]byte, error) { return nil, nil })
	if err != nil {
		panic(err)
	}
	c.Policy = append(c.Policy[:len(c.Policy)-32], digest...)
	return c
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
func authPolicy(t testing.TB, commands ...blob.PolicyCommand) []byte {
	t.Helper()
	d, err := policy.Digest(tpm2.TPMAlgSHA256, commands)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func wantUnmet(t testing.TB, err error, why string) {
	t.Helper()
	var unmet *policy.Unmet
	if !errors.As(err, &unmet) || err.Error() != why {
		t.Errorf("the policy gave %v, want %q", err, why)
	}
}

func command(code tpm2.TPMCC, body ...byte) blob.PolicyCommand {
	return blob.PolicyCommand{Code: uint32(code), Policy: body}
}

// or is TPM2_PolicyOR.
func or(digests ...[]byte) blob.PolicyCommand {
	body := binary.BigEndian.AppendUint32(nil, uint32(len(digests)))
	for _, d := range digests {
		body = append(body, sized(d)...)
	}
	return blob.PolicyCommand{Code: uint32(tpm2.TPMCCPolicyOR), Policy: body}
}

func sized(b []byte) []byte { return append(binary.BigEndian.AppendUint16(nil, uint16(len(b))), b...) }

// secretOf is TPM2_PolicySecret.
func secretOf(handle tpm2.TPMHandle, name, ref []byte) blob.PolicyCommand {
	body := binary.BigEndian.AppendUint32(nil, uint32(handle))
	return blob.PolicyCommand{Code: uint32(tpm2.TPMCCPolicySecret), Policy: slices.Concat(body, sized(name), sized(ref))}
}

// A policySigner signs policies as openssl_tpm2_engine's signed_tpm2_policy does.
type policySigner struct{ *tpmtest.PolicySigner }

func newPolicySigner(t testing.TB, kind tpm2.TPMAlgID) *policySigner {
	return &policySigner{tpmtest.NewPolicySigner(t, kind)}
}

// opening is the command that a key has for s to sign policies.
func (s *policySigner) opening() blob.PolicyCommand {
	return blob.PolicyCommand{Code: uint32(tpm2.TPMCCPolicyAuthorize), Policy: s.Opening()}
}

// signs is a signed policy.
func (s *policySigner) signs(t testing.TB, name string, commands ...blob.PolicyCommand) blob.AuthPolicy {
	t.Helper()
	return s.signsDigest(t, authPolicy(t, commands...), name, commands...)
}

func (s *policySigner) signsDigest(t testing.TB, approved []byte, name string, commands ...blob.PolicyCommand) blob.AuthPolicy {
	t.Helper()
	closing := blob.PolicyCommand{Code: uint32(tpm2.TPMCCPolicyAuthorize), Policy: s.Closing(t, approved)}
	return blob.AuthPolicy{Name: name, Policy: append(slices.Clone(commands), closing)}
}
