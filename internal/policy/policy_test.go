package policy_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-tpm/tpm2"

	"maclef/blob"
	"maclef/internal/policy"
	"maclef/internal/tpm20"
)

// TestPolicyDigests compares software's digest with the TPM's.
func TestPolicyDigests(t *testing.T) {
	g := newPolicyRig(t)
	some := bytes.Repeat([]byte{0xa5}, 32)
	owner := binary.BigEndian.AppendUint32(nil, uint32(tpm2.TPMRHOwner))
	timer := []byte{0, 0, 0, 0, 0, 0, 0, 0, 0, 8, 0, 7} // clock ≥ 0
	pcr := g.pcr(0, 16)
	for _, commands := range [][]blob.PolicyCommand{
		{pcr},
		{pcrs([]policy.PCRSelection{{Bank: tpm2.TPMAlgSHA1, PCRs: 0}}, empty256)},
		{command(tpm2.TPMCCPolicyAuthValue)},
		{command(tpm2.TPMCCPolicyPassword)},
		{command(tpm2.TPMCCPolicyLocality, 1)},
		{command(tpm2.TPMCCPolicyLocality, 0x1f)},
		{command(tpm2.TPMCCPolicyCommandCode, 0, 0, 1, 0x5d)},
		{command(tpm2.TPMCCPolicyNameHash, sized(some)...)},
		{command(tpm2.TPMCCPolicyCpHash, sized(some)...)},
		{command(tpm2.TPMCCPolicyTemplate, sized(some)...)},
		{command(tpm2.TPMCCPolicyPhysicalPresence)},
		{command(tpm2.TPMCCPolicyNvWritten, 1)},
		{command(tpm2.TPMCCPolicyNvWritten, 0)},
		{command(tpm2.TPMCCPolicyDuplicationSelect, slices.Concat(sized(some), sized(owner), []byte{1})...)},
		{command(tpm2.TPMCCPolicyDuplicationSelect, slices.Concat(sized(some), sized(owner), []byte{0})...)},
		{command(tpm2.TPMCCPolicyCounterTimer, timer...)},
		{command(tpm2.TPMCCPolicyCounterTimer, append(sized(timer[:8]), timer[8:]...)...)},
		{secretOf(tpm2.TPMRHOwner, owner, some)},
		{pcr, or(some, authPolicy(t, pcr)), command(tpm2.TPMCCPolicyAuthValue)},
	} {
		g.wantDigest(commands...)
		if len(commands) == 1 {
			g.wantDigest(secretOf(tpm2.TPMRHOwner, owner, nil), commands[0])
		}
	}
}

// wantDigest runs a policy and compares the digest that the TPM has with software's.
func (g *policyRig) wantDigest(commands ...blob.PolicyCommand) {
	g.t.Helper()
	want := authPolicy(g.t, commands...)
	p := g.policy(want, commands)
	if _, err := p.Run(g.conn, g.session, policy.Use{Secret: []byte{}}); err != nil {
		g.t.Errorf("%v: %v", commands, err)
		return
	}
	rsp, err := tpm20.Run(g.conn, tpm2.PolicyGetDigest{PolicySession: g.session.Handle()})
	if err != nil {
		g.t.Fatal(err)
	}
	if !bytes.Equal(rsp.PolicyDigest.Buffer, want) {
		g.t.Errorf("%v: software has %x, the TPM %x", commands, want, rsp.PolicyDigest.Buffer)
	}
}

var empty256 = []byte{
	0xe3, 0xb0, 0xc4, 0x42, 0x98, 0xfc, 0x1c, 0x14, 0x9a, 0xfb, 0xf4, 0xc8, 0x99, 0x6f, 0xb9, 0x24,
	0x27, 0xae, 0x41, 0xe4, 0x64, 0x9b, 0x93, 0x4c, 0xa4, 0x95, 0x99, 0x1b, 0x78, 0x52, 0xb8, 0x55,
}

// TestUnmetPolicies are policies whose commands, or the use after them, are refused.
func TestUnmetPolicies(t *testing.T) {
	g := newPolicyRig(t)
	some := bytes.Repeat([]byte{0xa5}, 32)
	for _, tt := range []struct {
		name    string
		command blob.PolicyCommand
		why     string
	}{
		{"locality", command(tpm2.TPMCCPolicyLocality, 0x10), "it requires another locality than this program's"},
		{"command code", command(tpm2.TPMCCPolicyCommandCode, 0, 0, 1, 0x5e), "it does not allow TPM2_Sign (TPM2_PolicyCommandCode)"},
		{"name hash", command(tpm2.TPMCCPolicyNameHash, sized(some)...), "the TPM says that it is not met, or is not the key's"},
		{"cpHash", command(tpm2.TPMCCPolicyCpHash, sized(some)...), "the TPM says that it is not met, or is not the key's"},
		{"presence", command(tpm2.TPMCCPolicyPhysicalPresence), "it needs physical presence"},
		{"timer", command(tpm2.TPMCCPolicyCounterTimer, 0, 4, 0, 0, 0, 0, 0, 16, 0, 0), "the TPM's count of resets is not = 0"},
		{"clock", command(tpm2.TPMCCPolicyCounterTimer, 0, 0, 0, 0, 0, 0, 0, 5, 0, 8, 0, 5), "the TPM's clock is not < 5 ms"},
		{"nobody's locality", command(tpm2.TPMCCPolicyLocality, 0), "the TPM refuses TPM2_PolicyLocality: TPM_RC_RANGE"},
		{"lockout", secretOf(0, []byte{0x40, 0, 0, 0x0a}, nil), "it asks for the secret of the lockout, and the TPM counts wrong ones: this program does not try secrets that a key file asks for"},
		{"signature", command(tpm2.TPMCCPolicySigned, 1, 2, 3), "it needs a new signature by a key for each use (TPM2_PolicySigned), which is not supported"},
		{"signature by", blob.PolicyCommand{Code: uint32(tpm2.TPMCCPolicySigned), Policy: secretOf(0, []byte{0, 0xb, 1, 2, 3}, nil).Policy},
			"it needs a signature by key 000b010203 for each use (TPM2_PolicySigned), which is not supported"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			want, err := policy.Digest(tpm2.TPMAlgSHA256, []blob.PolicyCommand{tt.command})
			if err != nil {
				want = some
			}
			key, p := g.key(want, ""), g.policy(want, []blob.PolicyCommand{tt.command})
			for range 2 {
				wantUnmet(t, g.sign(key, p, []byte{}), tt.why)
			}
		})
	}
	allowed := command(tpm2.TPMCCPolicyCommandCode, 0, 0, 1, 0x5d)
	want := authPolicy(t, allowed)
	if err := g.sign(g.key(want, ""), g.policy(want, []blob.PolicyCommand{allowed}), []byte{}); err != nil {
		t.Error(err)
	}
	if n := g.tries(); n != 0 {
		t.Errorf("the TPM has counted %d tries", n)
	}
}

func TestPolicyNotOfKey(t *testing.T) {
	g := newPolicyRig(t)
	want := authPolicy(t, policy.AuthValue())
	for _, tt := range []struct {
		want     []byte
		commands []blob.PolicyCommand
		why      string
	}{
		{want, nil, "only their digest is stored, 8fcd2169ab92694e…"},
		{nil, []blob.PolicyCommand{policy.AuthValue()}, "the key was made without a policy (authPolicy), and the file has one"},
		{want, []blob.PolicyCommand{g.pcr(16)}, "the policy of the file is not the one the key was made with (authPolicy)"},
		{want, []blob.PolicyCommand{policy.AuthValue(), newPolicySigner(t, tpm2.TPMAlgECC).opening()},
			"its command 2 needs a signed policy, which only the first one can"},
	} {
		before := g.tap.Count()
		wantUnmet(t, g.sign(nil, g.policy(tt.want, tt.commands), []byte("motdepasse")), tt.why)
		if n := g.tap.Count() - before; n != 0 {
			t.Errorf("%d commands were sent", n)
		}
	}
}

func TestPolicyNV(t *testing.T) {
	g := newPolicyRig(t)
	const index = 0x01800001
	defined := tpm2.TPMSNVPublic{
		NVIndex: index, NameAlg: tpm2.TPMAlgSHA256, DataSize: 8,
		Attributes: tpm2.TPMANV{OwnerRead: true, OwnerWrite: true, AuthRead: true, NoDA: true},
	}
	if _, err := tpm20.Run(g.conn, tpm2.NVDefineSpace{
		AuthHandle: tpm20.Hierarchy(tpm2.TPMRHOwner).Auth(nil), PublicInfo: tpm2.New2B(defined),
	}); err != nil {
		t.Fatal(err)
	}
	write := func(b byte) []byte {
		t.Helper()
		public, err := tpm20.Run(g.conn, tpm2.NVReadPublic{NVIndex: tpm2.TPMHandle(index)})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := tpm20.Run(g.conn, tpm2.NVWrite{
			AuthHandle: tpm20.Hierarchy(tpm2.TPMRHOwner).Auth(nil), NVIndex: tpm2.NamedHandle{Handle: index, Name: public.NVName},
			Data: tpm2.TPM2BMaxNVBuffer{Buffer: []byte{0, 0, 0, 0, 0, 0, 0, b}},
		}); err != nil {
			t.Fatal(err)
		}
		if public, err = tpm20.Run(g.conn, tpm2.NVReadPublic{NVIndex: tpm2.TPMHandle(index)}); err != nil {
			t.Fatal(err)
		}
		return public.NVName.Buffer
	}
	name := write(7)
	for _, auth := range []uint32{index, uint32(tpm2.TPMRHOwner)} {
		body := binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(nil, auth), index)
		body = append(body, 0, 8, 0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 0) // the whole = 7
		// The digest by go-tpm: software here does not know the index's name.
		calculator, err := tpm2.NewPolicyCalculator(tpm2.TPMAlgSHA256)
		if err != nil {
			t.Fatal(err)
		}
		if err := (tpm2.PolicyNV{
			NVIndex: tpm2.NamedHandle{Handle: index, Name: tpm2.TPM2BName{Buffer: name}}, OperandB: tpm2.TPM2BOperand{Buffer: body[10:18]},
		}).Update(calculator); err != nil {
			t.Fatal(err)
		}
		want := calculator.Hash().Digest
		key, p := g.key(want, ""), g.policy(want, []blob.PolicyCommand{command(tpm2.TPMCCPolicyNV, body...)})
		for range 2 {
			if err := g.sign(key, p, []byte{}); err != nil {
				t.Fatal(err)
			}
		}
		write(8)
		wantUnmet(t, g.sign(key, p, []byte{}), "NV index 0x01800001 is not = 0x0000000000000007")
		write(7)
		if err := g.sign(key, p, []byte{}); err != nil {
			t.Error(err)
		}
		body[7] = 2 // another index
		if auth == index {
			body[3] = 2
		}
		wantUnmet(t, g.sign(key, g.policy(want, []blob.PolicyCommand{command(tpm2.TPMCCPolicyNV, body...)}), []byte{}), "there is not an NV index 0x01800002")
	}
}

// TestDescribe says what a file and its key have that do not fit each other.
func TestDescribe(t *testing.T) {
	const digest = "policy digest: sha256:599a9cca81c171e404e4afc462e7415ee799c498b00ff6edb68d07de1dc47a20"
	eleven := bytes.Repeat([]byte{0x11}, 32)
	for name, tt := range map[string]struct {
		change func(*blob.TSS2)
		want   []string
	}{
		"as it is":        {func(*blob.TSS2) {}, []string{digest, "policy: PolicyPCR: sha256 PCRs 16, 23"}},
		"another policy":  {func(t *blob.TSS2) { t.Policy[0].Policy = append(t.Policy[0].Policy[:10], eleven...) }, []string{digest + ", which is NOT that of the commands below: the policy cannot be met", "policy: PolicyPCR: sha256 PCRs 16, 23"}},
		"no policy":       {func(t *blob.TSS2) { t.Policy = nil }, []string{digest, "policy: unknown: only the digest of its steps is stored"}},
		"unknown command": {func(t *blob.TSS2) { t.Policy[0] = command(0x1a0, eleven...) }, []string{digest + ", not checked: what command 0x000001a0 does to a policy is not known from its parameters alone", "policy: command 0x000001a0, with 32 bytes"}},
		"unchecked":       {func(t *blob.TSS2) { t.Policy[0] = command(tpm2.TPMCCPolicySigned, 1) }, []string{digest + ", not checked: what PolicySigned does to a policy is not known from its parameters alone", "policy: PolicySigned, with 1 bytes"}},
		"damaged":         {func(t *blob.TSS2) { t.Policy[0].Policy = nil }, []string{digest + ", not checked: damaged: PolicyPCR: it has no list of PCRs", "policy: PolicyPCR: 0 bytes that are invalid (it has no list of PCRs)"}},
		"PCRs as they are": {func(t *blob.TSS2) { t.Policy[0].Policy = append([]byte{0, 0}, t.Policy[0].Policy[:10]...) }, []string{
			digest + ", not checked: PolicyPCR uses the present PCRs, which only the TPM knows", "policy: PolicyPCR: sha256 PCRs 16, 23"}},
		"two steps": {func(t *blob.TSS2) { t.Policy = append(t.Policy, policy.AuthValue()) }, []string{
			digest + ", which is NOT that of the commands below: the policy cannot be met", "policy, step 1: PolicyPCR: sha256 PCRs 16, 23", "policy, step 2: PolicyAuthValue: the key's secret"}},
		"signed": {func(t *blob.TSS2) { t.AuthPolicy = []blob.AuthPolicy{{Name: "new\x1b kernel", Policy: t.Policy}, {}} }, []string{
			digest, "policy: PolicyPCR: sha256 PCRs 16, 23", `signed policy 1: "new\x1b kernel"`, "signed policy 1: PolicyPCR: sha256 PCRs 16, 23"}},
		"key without one": {func(t *blob.TSS2) { t.Public = []byte{0, 10, 0, 0x23, 0, 0xb, 0, 0, 0, 0, 0, 0} }, []string{
			"policy digest: none: the key has no policy, even if the file has one", "policy: PolicyPCR: sha256 PCRs 16, 23"}},
	} {
		data, err := os.ReadFile("../tpmtest/testdata/tpm2/e2-p256-pcr.pem")
		if err != nil {
			t.Fatal(err)
		}
		k, err := blob.Parse(data)
		if err != nil {
			t.Fatal(err)
		}
		file := k.(*blob.TSS2)
		tt.change(file)
		var got []string
		for _, l := range policy.Describe(file) {
			got = append(got, l.Name+": "+l.Value)
		}
		if !slices.Equal(got, tt.want) {
			t.Errorf("%s: %q, want %q", name, got, tt.want)
		}
	}
}

// TestBadPolicies are bodies that no program writes.
func TestBadPolicies(t *testing.T) {
	some := bytes.Repeat([]byte{0xa5}, 32)
	list := []byte{0, 0, 0, 1, 0, 0xb, 3, 0, 0, 1}
	signer := newPolicySigner(t, tpm2.TPMAlgECC)
	closing := signer.signs(t, "", policy.AuthValue()).Policy[1].Policy
	for _, tt := range []struct {
		name string
		code tpm2.TPMCC
		body []byte
		why  string
	}{
		{"no PCRs", tpm2.TPMCCPolicyPCR, nil, "it has no list of PCRs"},
		{"only a digest", tpm2.TPMCCPolicyPCR, some, "it has no list of PCRs"},
		{"short list", tpm2.TPMCCPolicyPCR, list[:8], "its list of PCRs is too short"},
		{"many banks", tpm2.TPMCCPolicyPCR, append([]byte{0xff, 0xff, 0xff, 0xff}, some...), "it has no list of PCRs"},
		{"many PCRs", tpm2.TPMCCPolicyPCR, append([]byte{0, 0, 0, 1, 0, 0xb, 255}, make([]byte, 300)...), "more PCRs than TPMs have"},
		{"no digest", tpm2.TPMCCPolicyPCR, list, "a digest of 0 bytes after the PCRs"},
		{"short digest", tpm2.TPMCCPolicyPCR, append(list, some[1:]...), "a digest of 31 bytes"},
		{"long digest", tpm2.TPMCCPolicyPCR, slices.Concat(list, some, []byte{0}), "a digest of 33 bytes"},
		{"no branches", tpm2.TPMCCPolicyOR, nil, "it is not a list of 2 to 8 digests"},
		{"one branch", tpm2.TPMCCPolicyOR, append([]byte{0, 0, 0, 1}, sized(some)...), "it is not a list of 2 to 8 digests"},
		{"nine branches", tpm2.TPMCCPolicyOR, or(some, some, some, some, some, some, some, some, some).Policy, "it is not a list of 2 to 8 digests"},
		{"a cut branch", tpm2.TPMCCPolicyOR, or(some, some).Policy[:60], "a digest that is not of 32 bytes"},
		{"a short branch", tpm2.TPMCCPolicyOR, or(some, some[:20]).Policy, "a digest that is not of 32 bytes"},
		{"behind branches", tpm2.TPMCCPolicyOR, append(or(some, some).Policy, 0), "1 bytes after its digests"},
		{"no secret", tpm2.TPMCCPolicySecret, nil, "it is not a handle, a name and a policyRef"},
		{"no name", tpm2.TPMCCPolicySecret, make([]byte, 8), "has an invalid size"},
		{"long name", tpm2.TPMCCPolicySecret, secretOf(0, make([]byte, 67), nil).Policy, "has an invalid size"},
		{"behind secret", tpm2.TPMCCPolicySecret, append(secretOf(0, some, nil).Policy, 0), "it is not a handle, a name and a policyRef"},
		{"no signer", tpm2.TPMCCPolicyAuthorize, nil, "it is not a public key, a policyRef and a signature"},
		{"empty signer", tpm2.TPMCCPolicyAuthorize, make([]byte, 6), "its public key is too short"},
		{"hash of signer", tpm2.TPMCCPolicyAuthorize, slices.Concat(sized([]byte{0, 0x23, 0xff, 0xff}), []byte{0, 0, 0, 0x10}), "hash algorithm 0xffff is none of"},
		{"no signature", tpm2.TPMCCPolicyAuthorize, slices.Concat(sized(signer.Public), sized(signer.Ref)), "signature"},
		{"cut signature", tpm2.TPMCCPolicyAuthorize, closing[:len(closing)-1], "are not a valid signature"},
		{"behind signature", tpm2.TPMCCPolicyAuthorize, append(slices.Clone(closing), 0), "are not a valid signature"},
		{"behind no signature", tpm2.TPMCCPolicyAuthorize, append(signer.opening().Policy, 0), "unsupported signature scheme"},
		{"signature scheme", tpm2.TPMCCPolicyAuthorize, slices.Concat(sized(signer.Public), sized(signer.Ref), []byte{0, 0x1a, 0, 0xb}), "0x1a"},
		{"long policyRef", tpm2.TPMCCPolicyAuthorize, slices.Concat(sized(signer.Public), sized(make([]byte, 99)), []byte{0, 0x10}), "its policyRef is longer than any digest"},
		{"auth value", tpm2.TPMCCPolicyAuthValue, []byte{0}, "it has parameters, and takes none"},
		{"password", tpm2.TPMCCPolicyPassword, []byte{0}, "it has parameters, and takes none"},
		{"locality", tpm2.TPMCCPolicyLocality, nil, "it has 0 bytes of parameters, not 1"},
		{"command code", tpm2.TPMCCPolicyCommandCode, []byte{1}, "it has 1 bytes of parameters, not 4"},
		{"cpHash", tpm2.TPMCCPolicyCpHash, some, "it is not a sized digest of 32 bytes"},
		{"name hash", tpm2.TPMCCPolicyNameHash, sized(some[1:]), "it is not a sized digest of 32 bytes"},
		{"timer", tpm2.TPMCCPolicyCounterTimer, []byte{0, 0, 0, 0}, "it has no operand, offset and operation"},
		{"timer's operation", tpm2.TPMCCPolicyCounterTimer, []byte{1, 0, 0, 0, 99}, "it has an unknown operation"},
		{"NV without handles", tpm2.TPMCCPolicyNV, make([]byte, 7), "it does not begin with two handles"},
		{"NV without operand", tpm2.TPMCCPolicyNV, make([]byte, 12), "it has no operand, offset and operation"},
		{"NV at no index", tpm2.TPMCCPolicyNV, append(make([]byte, 8), 0, 1, 1, 0, 0, 0, 0), "0x00000000 is not an NV index"},
		{"NV by somebody", tpm2.TPMCCPolicyNV, []byte{0x40, 0, 0, 0xc, 1, 0, 0, 1, 0, 1, 1, 0, 0, 0, 0}, "does not authorize reading"},
		{"duplication", tpm2.TPMCCPolicyDuplicationSelect, []byte{0, 0, 0, 0, 2}, "it is not two names and YES or NO"},
		{"TPM2_Clear", tpm2.TPMCCClear, nil, "it is not a policy command, or cannot be in a file"},
		{"TPM2_FlushContext", tpm2.TPMCCFlushContext, nil, "it is not a policy command, or cannot be in a file"},
		{"TPM2_ContextSave", tpm2.TPMCCContextSave, nil, "it is not a policy command, or cannot be in a file"},
		{"TPM2_PolicyAuthorizeNV", tpm2.TPMCCPolicyAuthorizeNV, make([]byte, 8), "it is not a policy command, or cannot be in a file"},
		{"long", tpm2.TPMCCPolicyTicket, make([]byte, 4000), "4000 bytes, more than a TPM takes"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			bad := blob.PolicyCommand{Code: uint32(tt.code), Policy: tt.body}
			if _, err := policy.New(tpm2.TPMAlgSHA256, some, []blob.PolicyCommand{policy.AuthValue(), bad}, nil); err == nil ||
				!strings.Contains(err.Error(), tt.why) || !strings.Contains(err.Error(), "policy, command 2 (TPM") {
				t.Errorf("got %v, want %q", err, tt.why)
			}
			if _, err := policy.New(tpm2.TPMAlgSHA256, some, nil, []blob.AuthPolicy{{Policy: []blob.PolicyCommand{bad}}}); err == nil ||
				!strings.Contains(err.Error(), "signed policy 1, command 1") {
				t.Errorf("in a signed policy: %v", err)
			}
		})
	}
	for _, n := range []int{65, 100000} {
		if _, err := policy.New(tpm2.TPMAlgSHA256, some, make([]blob.PolicyCommand, n), nil); err == nil {
			t.Errorf("%d commands are read", n)
		}
		if _, err := policy.New(tpm2.TPMAlgSHA256, some, nil, make([]blob.AuthPolicy, n)); err == nil {
			t.Errorf("%d signed policies are read", n)
		}
	}
	if _, err := policy.New(tpm2.TPMAlgNull, some, nil, nil); err == nil {
		t.Error("a policy of no hash algorithm is read")
	}
}

// FuzzPolicy describes what any file says, and runs it over a TPM that answers anything.
func FuzzPolicy(f *testing.F) {
	some := bytes.Repeat([]byte{0xa5}, 32)
	for _, c := range []blob.PolicyCommand{
		pcrs(selectPCRs(7, 11), some), policy.AuthValue(), or(some, some),
		secretOf(0, some, nil), secretOf(0x40000001, []byte{0x40, 0, 0, 1}, nil),
		command(tpm2.TPMCCPolicyCounterTimer, 0, 4, 0, 0, 0, 0, 0, 16, 0, 0),
		command(tpm2.TPMCCPolicyNV, 1, 0, 0, 1, 1, 0, 0, 1, 0, 1, 1, 0, 0, 0, 0),
		newPolicySigner(f, tpm2.TPMAlgECC).opening(),
		newPolicySigner(f, tpm2.TPMAlgECC).signs(f, "", policy.AuthValue()).Policy[1],
	} {
		f.Add(c.Code, c.Policy, []byte{0x80, 1, 0, 0, 0, 10, 0, 0, 0, 0})
		f.Add(c.Code, c.Policy, []byte{0x80, 1, 0, 0, 0, 10, 0, 0, 1, 0xc4})
	}
	f.Fuzz(func(t *testing.T, code uint32, body, reply []byte) {
		c := blob.PolicyCommand{Code: code, Policy: body}
		public := slices.Concat([]byte{0, 42, 0, 0x23, 0, 0xb, 0, 0, 0, 0}, sized(some))
		signed := []blob.AuthPolicy{{Name: string(body), Policy: []blob.PolicyCommand{c}}}
		for _, l := range policy.Describe(&blob.TSS2{Public: public, Policy: []blob.PolicyCommand{c}, AuthPolicy: signed}) {
			if l.Name == "" || l.Value == "" {
				t.Errorf("line %q", l)
			}
		}
		for _, commands := range [][]blob.PolicyCommand{{c}, {policy.AuthValue(), c}} {
			want, err := policy.Digest(tpm2.TPMAlgSHA256, commands)
			if err != nil {
				want = some
			}
			p, err := policy.New(tpm2.TPMAlgSHA256, want, commands, []blob.AuthPolicy{{Name: string(body), Policy: commands}})
			if err != nil {
				continue
			}
			conn := tpm20.New(&answers{t, c, reply})
			conn.Patience = 0
			s, err := conn.StartPolicy(tpm2.TPMAlgSHA256, nil)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := p.Run(conn, s, policy.Use{Secret: []byte{}}); err != nil && err.Error() == "" {
				t.Error("an error without words")
			}
		}
	})
}

// answers gives each command the same reply, but for the one that opens a session.
type answers struct {
	t       *testing.T
	command blob.PolicyCommand // of a policy; what is sent for it means the same
	reply   []byte
}

func (a *answers) Send(cmd []byte) ([]byte, error) {
	if len(cmd) < 10 || binary.BigEndian.Uint32(cmd[2:]) != uint32(len(cmd)) {
		return nil, fmt.Errorf("a command without its size: %x", cmd)
	}
	switch code := tpm2.TPMCC(binary.BigEndian.Uint32(cmd[6:])); code {
	case tpm2.TPMCCStartAuthSession:
		return slices.Concat([]byte{0x80, 1, 0, 0, 0, 32, 0, 0, 0, 0, 3, 0, 0, 0, 0, 16}, make([]byte, 16)), nil
	case tpm2.TPMCCPolicySecret, tpm2.TPMCCPolicyAuthorize, tpm2.TPMCCPolicyNV: // which have other handles, too
	case tpm2.TPMCC(a.command.Code):
		digest, err := policy.Digest(tpm2.TPMAlgSHA256, []blob.PolicyCommand{a.command})
		sent, sentErr := policy.Digest(tpm2.TPMAlgSHA256, []blob.PolicyCommand{{Code: uint32(code), Policy: cmd[14:]}})
		if !bytes.Equal(digest, sent) || (err == nil) != (sentErr == nil) {
			a.t.Errorf("%x is sent as %x: digest %x, %v, and then %x, %v", a.command.Policy, cmd[14:], digest, err, sent, sentErr)
		}
	}
	if len(a.reply) == 0 {
		return nil, errors.New("no answer")
	}
	return slices.Clone(a.reply), nil
}

// TestPolicyHashes has keys with names by other hash algorithms.
func TestPolicyHashes(t *testing.T) {
	for _, alg := range []tpm2.TPMIAlgHash{tpm2.TPMAlgSHA1, tpm2.TPMAlgSHA384, tpm2.TPMAlgSHA512} {
		g := newPolicyRig(t)
		selection := selectPCRs(16)
		values, err := policy.PCRs(alg, selection, g.conn.PCRRead)
		if err != nil {
			t.Fatal(err)
		}
		commands := []blob.PolicyCommand{values, policy.AuthValue()}
		want, err := policy.Digest(alg, commands)
		if err != nil {
			t.Fatal(err)
		}
		p, err := policy.New(alg, want, commands, nil)
		if err != nil {
			t.Fatal(err)
		}
		template := eccKey
		template.NameAlg, template.AuthPolicy.Buffer, template.ObjectAttributes.UserWithAuth = alg, want, false
		key := g.create(template, "motdepasse")
		if err := g.sign(key, p, []byte("motdepasse")); err == nil {
			t.Error("it is run in a session of another hash")
		}
		if g.session, err = g.conn.StartPolicy(p.Alg(), g.parent); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if err := g.sign(key, p, []byte("motdepasse")); err != nil {
				t.Error(err)
			}
		}
		g.extend(16)
		wantUnmet(t, g.sign(key, p, []byte("motdepasse")), "PCR 16 differs")
	}
}
