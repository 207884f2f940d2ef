package policy_test

import (
	"bytes"
	"slices"
	"testing"

	"github.com/google/go-tpm/tpm2"

	"maclef/blob"
	"maclef/internal/policy"
)

func steps(t *testing.T, text string) []policy.Step {
	t.Helper()
	s, err := policy.ParseSteps(text)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestCheckSteps compares steps that a user gives with the ones that a key was made with.
func TestCheckSteps(t *testing.T) {
	zeros := func(_ tpm2.TPMIAlgHash, pcrs []int) (map[int][]byte, error) {
		values := map[int][]byte{}
		for _, pcr := range pcrs {
			values[pcr] = make([]byte, 32)
		}
		return values, nil
	}
	resolve := func(text string) []policy.Step {
		resolved, err := policy.Resolve(tpm2.TPMAlgSHA256, steps(t, text), zeros)
		if err != nil {
			t.Fatal(err)
		}
		return resolved
	}
	const pcrsDiffer = "PCRs have changed since it was made, or it was made with other PCRs or steps, or in another order"
	for _, tt := range []struct{ made, given, why string }{
		{"pcr:7+auth", "pcr:sha256:7+password", ""},
		{"command:sign+pcr:0-7+auth", "command:0x15d+pcr:0,1,2,3-7+authvalue", ""},
		{"auth+pcr:7", "pcr:7+auth", "that is auth+pcr:sha256:7, not pcr:sha256:7+auth"},
		{"pcr:7+auth", "pcr:7", "that is pcr:sha256:7+auth, not pcr:sha256:7"},
		{"pcr:7", "pcr:7+auth", "that is pcr:sha256:7, not pcr:sha256:7+auth"},
		{"auth+command:sign+pcr:7", "pcr:7+command:sign", "that is auth+command:sign+pcr:sha256:7, not pcr:sha256:7+command:sign"},
		{"pcr:7+pcr:8", "pcr:7,8", "pcr:sha256:7-8 gives the digest 47f797e7e47b3c47… now, and it has 3c0cd8597956cd1e…: " + pcrsDiffer},
		{"pcr:7", "command:sign", "command:sign gives the digest cc6918b226273b08… now, and it has 8b5682d81b29435d…: it was made with other steps, or in another order"},
		{"", "command:sign", "it was made without one, and command:sign was given"},
	} {
		var want []byte
		if tt.made != "" {
			want = authPolicy(t, policy.Commands(resolve(tt.made))...)
		}
		err := policy.CheckSteps(tpm2.TPMAlgSHA256, want, resolve(tt.given))
		if tt.why == "" && err != nil {
			t.Errorf("%s: %v", tt.given, err)
		} else if tt.why != "" {
			wantUnmet(t, err, tt.why)
		}
	}
	many := resolve("pcr:1+pcr:2+pcr:3+pcr:4+pcr:5+pcr:6+pcr:7+pcr:8")
	if err := policy.CheckSteps(tpm2.TPMAlgSHA256, make([]byte, 32), many); err == nil {
		t.Error("many steps fit another digest")
	}
}

// TestRecognise has keys of which only the digest of the policy is stored.
func TestRecognise(t *testing.T) {
	g := newPolicyRig(t)
	for _, tt := range []struct {
		made, want string
		secret     bool // the key's own
	}{
		{"", "no steps: every policy session meets it", false},
		{"auth", "PolicyAuthValue: the key's secret", true},
		{"command:sign", "PolicyCommandCode: only for TPM2_Sign", false},
		{"command:sign+auth", "PolicyAuthValue: the key's secret", true},
		{"auth+command:TPM2_CC_Sign", "PolicyCommandCode: only for TPM2_Sign", true},
		{"pcr:16", "unknown: only the digest of its steps is stored", false},
	} {
		want := make([]byte, 32)
		if tt.made != "" {
			made, err := policy.Resolve(tpm2.TPMAlgSHA256, steps(t, tt.made), g.conn.PCRRead)
			if err != nil {
				t.Fatal(err)
			}
			want = authPolicy(t, policy.Commands(made)...)
		}
		key := g.key(want, "motdepasse")
		file := &blob.TSS2{Public: tpm2.Marshal(tpm2.New2B(*key.Public)), EmptyAuth: true}
		by := policy.Recognise(file)
		if lines := policy.Describe(by); lines[len(lines)-1].Value != tt.want {
			t.Errorf("%s: %q, want %q", tt.made, lines, tt.want)
		}
		if len(file.Policy) > 0 || by.NeedsSecret() != tt.secret {
			t.Errorf("%s: the file has policy %v, needs a secret %v", tt.made, file.Policy, by.NeedsSecret())
		}
		if by == file {
			continue
		}
		if err := g.sign(key, g.policy(want, by.Policy), []byte("motdepasse")); err != nil {
			t.Errorf("%s: %v", tt.made, err)
		}
		with := *key.Public
		with.ObjectAttributes.UserWithAuth = true
		file.Public = tpm2.Marshal(tpm2.New2B(with))
		if policy.Recognise(file) != file {
			t.Errorf("%s is recognised, and the key's secret would do", tt.made)
		}
	}
	if n := g.tries(); n != 0 {
		t.Errorf("the TPM has counted %d tries", n)
	}
}

// TestSecretOwner says whose secret is asked for.
func TestSecretOwner(t *testing.T) {
	owner, nv := []byte{0x40, 0, 0, 1}, slices.Concat([]byte{0, 0xb}, bytes.Repeat([]byte{1}, 32))
	area := *newPolicyRig(t).key(make([]byte, 32), "").Public
	for _, tt := range []struct {
		commands []blob.PolicyCommand
		byAuth   bool
		want     string
	}{
		{nil, false, ""},
		{[]blob.PolicyCommand{secretOf(0, owner, nil)}, false, "the owner hierarchy"},
		{[]blob.PolicyCommand{secretOf(0, owner, nil)}, true, ""},
		{[]blob.PolicyCommand{secretOf(0, owner, nil), policy.AuthValue()}, false, ""},
		{[]blob.PolicyCommand{secretOf(0x01800001, nv, nil)}, false, "NV index 0x01800001"},
		{[]blob.PolicyCommand{secretOf(0x81000005, nv, nil)}, false, "the object at 0x81000005"},
		{[]blob.PolicyCommand{secretOf(0, nv, nil)}, false, "the object sha256:" + string(bytes.Repeat([]byte("01"), 32))},
		{[]blob.PolicyCommand{command(tpm2.TPMCCPolicySecret, 1)}, false, ""},
	} {
		area.ObjectAttributes.UserWithAuth = tt.byAuth
		file := &blob.TSS2{Public: tpm2.Marshal(tpm2.New2B(area)), Policy: tt.commands}
		if got := policy.SecretOwner(file); got != tt.want {
			t.Errorf("%v: %q, want %q", tt.commands, got, tt.want)
		}
		file.Policy, file.AuthPolicy = nil, []blob.AuthPolicy{{Policy: tt.commands}}
		if got := policy.SecretOwner(file); got != tt.want {
			t.Errorf("%v in a signed policy: %q, want %q", tt.commands, got, tt.want)
		}
	}
	area.ObjectAttributes.UserWithAuth = false
	area.AuthPolicy.Buffer = authPolicy(t, policy.HierarchySecret(tpm2.TPMRHEndorsement))
	file := &blob.TSS2{Public: tpm2.Marshal(tpm2.New2B(area))}
	if got := policy.SecretOwner(policy.Recognise(file)); got != "the endorsement hierarchy" {
		t.Errorf("the digest tells the owner %q", got)
	}
}
