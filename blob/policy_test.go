package blob

import (
	"bytes"
	"crypto/elliptic"
	"encoding/binary"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"
)

// policyKey is a public area to name in policies, and its name.
func policyKey(t testing.TB) (public, name []byte) {
	t.Helper()
	key := softwareECC(t, elliptic.P256())
	public = ecc(signOnly, tpm2.TPMECCNistP256, key.X.FillBytes(make([]byte, 32)), key.Y.FillBytes(make([]byte, 32)))
	name, err := objectName(tpm2.TPMAlgSHA256, public[2:])
	if err != nil {
		t.Fatal(err)
	}
	return public, name
}

// samplePolicies are commands as files have them, and words that explain each.
func samplePolicies(t testing.TB) []struct {
	command PolicyCommand
	words   string
} {
	sha256 := tpm2.TPMAlgSHA256
	digest := ones(32)
	public, name := policyKey(t)
	pcrs := NewPolicyPCR(sha256, []uint{7, 11, 23}, digest)
	selection := pcrs.Policy[:len(pcrs.Policy)-32]
	sized := appendSized16(nil, digest)
	owner := []byte{0x40, 0, 0, 1}
	words := nameWords(name)
	return []struct {
		command PolicyCommand
		words   string
	}{
		{pcrs, "PolicyPCR: sha256 PCRs 7, 11, 23"},
		{PolicyCommand{tpm2.TPMCCPolicyPCR, append(bytes.Clone(sized), selection...)}, "PolicyPCR: sha256 PCRs 7, 11, 23"},
		{PolicyCommand{tpm2.TPMCCPolicyAuthValue, nil}, "PolicyAuthValue: the key's secret"},
		{PolicyCommand{tpm2.TPMCCPolicyPassword, nil}, "PolicyPassword: the key's secret, sent as a password"},
		{PolicyCommand{tpm2.TPMCCPolicyCommandCode, []byte{0, 0, 1, 0x5d}}, "PolicyCommandCode: only for TPM2_Sign"},
		{PolicyCommand{tpm2.TPMCCPolicyCommandCode, []byte{0, 0, 1, 0x20}}, "PolicyCommandCode: only for command 0x00000120"},
		{PolicyCommand{tpm2.TPMCCPolicyLocality, []byte{9}}, "PolicyLocality: locality 0 or 3"},
		{PolicyCommand{tpm2.TPMCCPolicyLocality, []byte{40}}, "PolicyLocality: locality 40"},
		{PolicyCommand{tpm2.TPMCCPolicyNameHash, sized}, "PolicyNameHash: only with certain objects"},
		{PolicyCommand{tpm2.TPMCCPolicyCpHash, sized}, "PolicyCpHash: only for one command with certain parameters"},
		{PolicyCommand{tpm2.TPMCCPolicyTemplate, sized}, "PolicyTemplate: only to create objects by one template"},
		{PolicyCommand{tpm2.TPMCCPolicyPhysicalPresence, nil}, "PolicyPhysicalPresence: somebody at the machine (physical presence)"},
		{PolicyCommand{tpm2.TPMCCPolicyNvWritten, []byte{1}}, "PolicyNvWritten: whether an NV index has been written"},
		{PolicyCommand{tpm2.TPMCCPolicyOR, append(append([]byte{0, 0, 0, 2}, sized...), appendSized16(nil, make([]byte, 32))...)}, "PolicyOR: what came before is one of 2 policies"},
		{PolicyCommand{tpm2.TPMCCPolicyDuplicationSelect, append(append(appendSized16(nil, name), appendSized16(nil, name)...), 1)}, "PolicyDuplicationSelect: only to duplicate the key to one new parent"},
		{PolicyCommand{tpm2.TPMCCPolicyDuplicationSelect, append(append(appendSized16(nil, name), appendSized16(nil, name)...), 0)}, "PolicyDuplicationSelect: only to duplicate the key to one new parent"},
		{PolicyCommand{tpm2.TPMCCPolicyCounterTimer, []byte{0, 0, 0, 0, 0, 0, 0, 99, 0, 8, 0, 3}}, "PolicyCounterTimer: clock or restart counters of the TPM: clock > 0x0000000000000063"},
		{PolicyCommand{tpm2.TPMCCPolicyCounterTimer, []byte{0, 4, 0, 0, 0, 99, 0, 16, 0, 5}}, "PolicyCounterTimer: clock or restart counters of the TPM: resetCount < 0x00000063"},
		{policySecret(handleOwner, owner, []byte{1, 2}), "PolicySecret: the secret of the owner hierarchy"},
		{policySecret(0, name, nil), "PolicySecret: the secret of the object " + words},
		{policySecret(persistentRSA, name, nil), "PolicySecret: the secret of the object at 0x81000001"},
		{PolicyCommand{tpm2.TPMCCPolicyAuthorize, append(append(bytes.Clone(public), sized...), 0, 0x10)}, "PolicyAuthorize: a policy signed by key " + words},
		{PolicyCommand{tpm2.TPMCCPolicyAuthorize, append(append(bytes.Clone(public), 0, 0), 0, 0x18, 0, 0xb, 0, 1, 9, 0, 1, 9)}, "PolicyAuthorize: a policy signed by key " + words},
	}
}

// policySecret makes the command that asks for an object's secret.
func policySecret(handle uint32, name, ref []byte) PolicyCommand {
	body := append(binary.BigEndian.AppendUint32(nil, handle), appendSized16(nil, name)...)
	return PolicyCommand{Code: tpm2.TPMCCPolicySecret, Policy: append(body, appendSized16(nil, ref)...)}
}

// TestPolicyDigest compares each with what a trial session of a TPM has after it, and
// after it and another.
func TestPolicyDigest(t *testing.T) {
	tpm := startTPM(t)
	storage, _ := parentRSA(t, tpm)
	secret := policySecret(persistentRSA, storage.Name.Buffer, []byte("ref"))
	for _, c := range samplePolicies(t) {
		if got := c.command.Words(tpm2.TPMAlgSHA256); got != c.words {
			t.Errorf("%q, want %q", got, c.words)
		}
		if strings.HasPrefix(c.words, "PolicySecret: the secret of the object") {
			continue // which is not in the TPM
		}
		for _, policy := range [][]PolicyCommand{{c.command}, {secret, c.command}} {
			got, err := PolicyDigest(tpm2.TPMAlgSHA256, policy)
			if err != nil {
				t.Errorf("%s: %v", c.words, err)
				continue
			}
			if want := trial(t, tpm, policy); !bytes.Equal(got, want) {
				t.Errorf("%s (of %d): %x, and the TPM says %x", c.words, len(policy), got, want)
			}
		}
	}
}

// trial runs a policy in a trial session and returns its digest.
func trial(t *testing.T, tpm transport.TPM, policy []PolicyCommand) []byte {
	t.Helper()
	start, err := tpm2.StartAuthSession{
		TPMKey: tpm2.TPMRHNull, Bind: tpm2.TPMRHNull, NonceCaller: tpm2.TPM2BNonce{Buffer: ones(16)},
		SessionType: tpm2.TPMSETrial, Symmetric: tpm2.TPMTSymDef{Algorithm: tpm2.TPMAlgNull}, AuthHash: tpm2.TPMAlgSHA256,
	}.Execute(tpm)
	if err != nil {
		t.Fatal(err)
	}
	session := start.SessionHandle
	defer tpm2.FlushContext{FlushHandle: session}.Execute(tpm)
	for _, c := range policy {
		switch c.Code {
		case tpm2.TPMCCPolicySecret:
			p, err := c.Secret()
			if err != nil {
				t.Fatal(err)
			}
			_, err = tpm2.PolicySecret{
				AuthHandle:    tpm2.AuthHandle{Handle: tpm2.TPMHandle(p.Handle), Name: tpm2.TPM2BName{Buffer: p.Name}, Auth: tpm2.PasswordAuth(nil)},
				PolicySession: session, PolicyRef: tpm2.TPM2BNonce{Buffer: p.Ref},
			}.Execute(tpm)
			if err != nil {
				t.Fatal(err)
			}
		case tpm2.TPMCCPolicyAuthorize:
			p, err := c.Authorize()
			if err != nil {
				t.Fatal(err)
			}
			name, err := p.Name()
			if err != nil {
				t.Fatal(err)
			}
			_, err = tpm2.PolicyAuthorize{
				PolicySession: session, PolicyRef: tpm2.TPM2BDigest{Buffer: p.Ref}, KeySign: tpm2.TPM2BName{Buffer: name},
				CheckTicket: tpm2.TPMTTKVerified{Tag: tpm2.TPMSTVerified, Hierarchy: tpm2.TPMRHNull},
			}.Execute(tpm)
			if err != nil {
				t.Fatal(err)
			}
		default:
			wire, err := c.Wire(tpm2.TPMAlgSHA256)
			if err != nil {
				t.Fatal(err)
			}
			send(t, tpm, c.Code, session, wire)
		}
	}
	digest, err := tpm2.PolicyGetDigest{PolicySession: session}.Execute(tpm)
	if err != nil {
		t.Fatal(err)
	}
	return digest.PolicyDigest.Buffer
}

// send sends a command with a session as its only handle.
func send(t *testing.T, tpm transport.TPM, code tpm2.TPMCC, session tpm2.TPMISHAuthSession, wire []byte) {
	t.Helper()
	cmd := binary.BigEndian.AppendUint32([]byte{0x80, 1}, uint32(14+len(wire)))
	cmd = binary.BigEndian.AppendUint32(cmd, uint32(code))
	cmd = append(binary.BigEndian.AppendUint32(cmd, uint32(session)), wire...)
	rsp, err := tpm.Send(cmd)
	if err != nil || len(rsp) != 10 || !bytes.Equal(rsp[6:], []byte{0, 0, 0, 0}) {
		t.Fatalf("%s: %x, %v", policyName(code), rsp, err)
	}
}

func TestPolicyDamaged(t *testing.T) {
	for _, c := range samplePolicies(t) {
		body := c.command.Policy
		for n := range len(body) + 2 {
			cut := c.command
			cut.Policy = append(bytes.Clone(body), 0)[:min(n, len(body)+1)]
			if n == len(body) {
				continue
			}
			_, err := PolicyDigest(tpm2.TPMAlgSHA256, []PolicyCommand{cut})
			timer := c.command.Code == tpm2.TPMCCPolicyCounterTimer && n > 4 // operands have any length
			pcr := c.command.Code == tpm2.TPMCCPolicyPCR && n < len(body)
			if err == nil && !timer || err != nil && !errors.Is(err, ErrDamaged) && !pcr {
				t.Errorf("%s, %d of %d bytes: %v", c.words, n, len(body), err)
			}
			if words := cut.Words(tpm2.TPMAlgSHA256); err != nil && !strings.Contains(words, "do not fit it") && !strings.Contains(words, "no PCRs") {
				t.Errorf("%s, %d of %d bytes: %s", c.words, n, len(body), words)
			}
		}
	}
	for _, code := range []tpm2.TPMCC{tpm2.TPMCCPolicySigned, tpm2.TPMCCPolicyNV, tpm2.TPMCCPolicyTicket, tpm2.TPMCCPolicyAuthorizeNV, 0, 0xffffffff} {
		c := PolicyCommand{Code: code, Policy: ones(5)}
		if _, err := PolicyDigest(tpm2.TPMAlgSHA256, []PolicyCommand{c}); err == nil {
			t.Errorf("%s has a digest", policyName(code))
		}
		if _, err := c.Wire(tpm2.TPMAlgSHA256); err == nil {
			t.Errorf("%s has a form on the wire", policyName(code))
		}
		if got := c.Words(tpm2.TPMAlgSHA256); got != policyName(code)+", with 5 bytes" {
			t.Error(got)
		}
	}
	if _, err := PolicyDigest(0x999, nil); !errors.Is(err, ErrUnsupported) {
		t.Error(err)
	}
	many := PolicyCommand{Code: tpm2.TPMCCPolicyPCR, Policy: append([]byte{0xff, 0xff, 0xff, 0xff}, ones(60)...)}
	if _, err := many.PCR(tpm2.TPMAlgSHA256); !errors.Is(err, ErrDamaged) {
		t.Error(err)
	}
	if _, err := many.Secret(); err == nil {
		t.Error("PolicyPCR read as PolicySecret")
	}
}

// TestPolicyNow: a digest of no bytes means the PCRs as they are when the key is made.
func TestPolicyNow(t *testing.T) {
	full := NewPolicyPCR(tpm2.TPMAlgSHA256, []uint{0}, nil)
	now := PolicyCommand{Code: tpm2.TPMCCPolicyPCR, Policy: append([]byte{0, 0}, full.Policy...)}
	p, err := now.PCR(tpm2.TPMAlgSHA256)
	if err != nil || len(p.Digest) != 0 || len(p.Selection.PCRSelections) != 1 {
		t.Errorf("%+v, %v", p, err)
	}
	if _, err := PolicyDigest(tpm2.TPMAlgSHA256, []PolicyCommand{now}); err == nil {
		t.Error("a digest of unknown PCRs")
	}
	if got := now.Words(tpm2.TPMAlgSHA256); got != "PolicyPCR: sha256 PCR 0" {
		t.Error(got)
	}
}

// NewPolicyPCR makes the command for some PCRs of one bank: digest is that of their
// values, one after the other in ascending order. It has the form that is hashed, which
// openssl_tpm2_engine reads.
func NewPolicyPCR(bank tpm2.TPMAlgID, pcrs []uint, digest []byte) PolicyCommand {
	selection := tpm2.TPMLPCRSelection{PCRSelections: []tpm2.TPMSPCRSelection{{
		Hash:      bank,
		PCRSelect: tpm2.PCClientCompatible.PCRs(pcrs...),
	}}}
	return PolicyCommand{Code: tpm2.TPMCCPolicyPCR, Policy: append(tpm2.Marshal(selection), digest...)}
}
