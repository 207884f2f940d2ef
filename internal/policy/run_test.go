package policy_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-tpm/tpm2"

	"maclef/blob"
	"maclef/internal/policy"
	"maclef/internal/tpm20"
)

func TestPolicyPCR(t *testing.T) {
	g := newPolicyRig(t)
	one, two := g.pcr(16), g.pcr(7, 16, 23)
	sent := slices.Concat(sized(one.Policy[len(one.Policy)-32:]), one.Policy[:len(one.Policy)-32])
	for _, tt := range []struct {
		name    string
		command blob.PolicyCommand
		why     string
	}{
		{"one", one, "PCR 16 differs"},
		{"some", two, "one or more of PCRs 7,16,23 differ"},
		{"as it is sent", blob.PolicyCommand{Code: one.Code, Policy: sent}, "PCR 16 differs"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			want := authPolicy(t, tt.command)
			key, p := g.key(want, ""), g.policy(want, []blob.PolicyCommand{tt.command})
			before := g.tap.Count()
			for range 2 {
				if err := g.sign(key, p, []byte{}); err != nil {
					t.Fatal(err)
				}
			}
			if n := g.tap.Count() - before; n != 4 {
				t.Errorf("two signatures took %d commands, want 4: the policy and the signature", n)
			}
			g.extend(16)
			wantUnmet(t, g.sign(key, p, []byte{}), tt.why)
			wantUnmet(t, g.sign(key, p, []byte{}), tt.why)
			g.reset(16)
			if err := g.sign(key, p, []byte{}); err != nil {
				t.Error(err)
			}
		})
	}
	if n := g.tries(); n != 0 {
		t.Errorf("the TPM has counted %d tries", n)
	}
}

func TestPolicyBank(t *testing.T) {
	g := newPolicyRig(t)
	selection := []policy.PCRSelection{{Bank: 0x28, PCRs: 1 << 7}} // SHA3-384
	c := pcrs(selection, make([]byte, 32))
	wantUnmet(t, g.sign(nil, g.policy(authPolicy(t, c), []blob.PolicyCommand{c}), []byte{}), "the TPM has no active PCRs of bank sha3-384")
}

func TestPolicyAuthValue(t *testing.T) {
	for _, code := range []tpm2.TPMCC{tpm2.TPMCCPolicyAuthValue, tpm2.TPMCCPolicyPassword} {
		g := newPolicyRig(t)
		commands := []blob.PolicyCommand{g.pcr(16), command(code)}
		want := authPolicy(t, commands...)
		key, p := g.key(want, "motdepasse"), g.policy(want, commands)
		for range 2 {
			if err := g.sign(key, p, []byte("motdepasse")); err != nil {
				t.Fatal(err)
			}
		}
		if g.crossed("motdepasse") {
			t.Error("the secret crossed in clear")
		}
		wantUnmet(t, g.sign(key, p, nil), "it needs the key's secret")
		g.extend(16)
		wantUnmet(t, g.sign(key, p, []byte("wrong")), "PCR 16 differs")
		g.reset(16)
		if n := g.tries(); n != 0 {
			t.Errorf("the TPM has counted %d tries without one", n)
		}
		if err := g.sign(key, p, []byte("wrong")); !errors.Is(err, tpm2.TPMRCAuthFail) {
			t.Errorf("a wrong secret gave %v", err)
		}
		if n := g.tries(); n != 1 {
			t.Errorf("the TPM has counted %d tries for one", n)
		}
		if err := g.sign(key, p, []byte("motdepasse")); err != nil {
			t.Error(err)
		}
	}
}

func TestPolicyOr(t *testing.T) {
	g := newPolicyRig(t)
	before := g.pcr(16)
	g.extend(16)
	after := g.pcr(16)
	list := or(authPolicy(t, before), authPolicy(t, after))
	want := authPolicy(t, after, list)
	key := g.key(want, "")
	if err := g.sign(key, g.policy(want, []blob.PolicyCommand{after, list}), []byte{}); err != nil {
		t.Error(err)
	}
	wantUnmet(t, g.sign(key, g.policy(want, []blob.PolicyCommand{before, list}), []byte{}), "PCR 16 differs")
	wantUnmet(t, g.sign(key, g.policy(want, []blob.PolicyCommand{g.pcr(0), list}), []byte{}),
		"what precedes its TPM2_PolicyOR is none of the 2 branches there")

	// PCRs as they are, which are to be one of those.
	any := blob.PolicyCommand{Code: uint32(tpm2.TPMCCPolicyPCR), Policy: slices.Concat([]byte{0, 0}, before.Policy[:len(before.Policy)-32])}
	p := g.policy(want, []blob.PolicyCommand{any, list})
	if err := g.sign(key, p, []byte{}); err != nil {
		t.Error(err)
	}
	g.reset(16)
	if err := g.sign(key, p, []byte{}); err != nil {
		t.Error(err)
	}
	g.extend(16)
	g.extend(16)
	wantUnmet(t, g.sign(key, p, []byte{}), "none of the 2 branches of its TPM2_PolicyOR is met with PCRs 16 as they are now")
	wantUnmet(t, g.sign(key, g.policy(want, []blob.PolicyCommand{any}), []byte{}),
		"the policy of the file with PCRs 16 as they are now is not the one the key was made with (authPolicy)")
}

func TestPolicySecret(t *testing.T) {
	g := newPolicyRig(t)
	owner := binary.BigEndian.AppendUint32(nil, uint32(tpm2.TPMRHOwner))
	for _, c := range []blob.PolicyCommand{secretOf(tpm2.TPMRHOwner, owner, nil), secretOf(0, owner, []byte("ref"))} {
		want := authPolicy(t, c)
		key, p := g.key(want, ""), g.policy(want, []blob.PolicyCommand{c})
		for range 2 {
			if err := g.sign(key, p, []byte{}); err != nil {
				t.Fatal(err)
			}
		}
		wantUnmet(t, g.sign(key, p, nil), "it asks for the secret of the owner hierarchy")
		if err := g.sign(key, p, []byte("wrong")); !errors.Is(err, tpm2.TPMRCAuthFail) && !errors.Is(err, tpm2.TPMRCBadAuth) {
			t.Errorf("a wrong secret gave %v", err)
		}
		// Beside the key's own secret, that of others is the empty one.
		both := []blob.PolicyCommand{c, command(tpm2.TPMCCPolicyAuthValue)}
		want = authPolicy(t, both...)
		if err := g.sign(g.key(want, "motdepasse"), g.policy(want, both), []byte("motdepasse")); err != nil {
			t.Error(err)
		}
	}
	c := secretOf(tpm2.TPMRHOwner, owner, nil)
	want := authPolicy(t, c)
	key, p := g.key(want, ""), g.policy(want, []blob.PolicyCommand{c})
	if _, err := tpm20.Run(g.conn, tpm2.HierarchyChangeAuth{
		AuthHandle: tpm20.Hierarchy(tpm2.TPMRHOwner).Auth(nil),
		NewAuth:    tpm2.TPM2BAuth{Buffer: []byte("proprio")},
	}); err != nil {
		t.Fatal(err)
	}
	wantUnmet(t, g.sign(key, p, []byte{}), "it asks for the secret of the owner hierarchy, which is not empty")
	if err := g.sign(key, p, []byte("proprio")); err != nil {
		t.Error(err)
	}
}

// TestPolicySecretOfObject has a persistent key whose secret another key asks for.
func TestPolicySecretOfObject(t *testing.T) {
	g := newPolicyRig(t)
	uncounted := eccKey
	uncounted.ObjectAttributes.NoDA = true
	holder := g.create(uncounted, "tiers")
	c := secretOf(0, holder.Name.Buffer, nil)
	want := authPolicy(t, c)
	wantUnmet(t, g.sign(nil, g.policy(want, []blob.PolicyCommand{c}), []byte("tiers")),
		fmt.Sprintf("it asks for the secret of an object that this TPM does not have (name %x…)", holder.Name.Buffer[:8]))
	const at = 0x81005555
	g.keep(holder, at)
	key := g.key(want, "")
	for _, hint := range []tpm2.TPMHandle{0, at, 0x81000001, tpm2.TPMRHOwner} {
		p := g.policy(want, []blob.PolicyCommand{secretOf(hint, holder.Name.Buffer, nil)})
		for range 2 {
			if err := g.sign(key, p, []byte("tiers")); err != nil {
				t.Errorf("hint %#x: %v", hint, err)
			}
		}
	}
	if n := g.tries(); n != 0 {
		t.Errorf("the TPM has counted %d tries", n)
	}
	p := g.policy(want, []blob.PolicyCommand{c})
	if err := g.sign(key, p, []byte("wrong")); !errors.Is(err, tpm2.TPMRCBadAuth) {
		t.Errorf("a wrong secret gave %v", err)
	}
	if g.crossed("tiers") {
		t.Error("the secret crossed in clear")
	}
}

// keep has the TPM keep an object, and frees its place.
func (g *policyRig) keep(o *tpm20.Object, at tpm2.TPMHandle) {
	g.t.Helper()
	if _, err := tpm20.Run(g.conn, tpm2.EvictControl{
		Auth: tpm20.Hierarchy(tpm2.TPMRHOwner).Auth(nil), ObjectHandle: &tpm2.NamedHandle{Handle: o.Handle, Name: o.Name},
		PersistentHandle: at,
	}); err != nil {
		g.t.Fatal(err)
	}
	g.conn.Flush(o.Handle)
}

// TestPolicySecretIsNotTried has a file ask for a secret of which wrong ones count.
func TestPolicySecretIsNotTried(t *testing.T) {
	g := newPolicyRig(t)
	const at = 0x81005555
	g.keep(g.create(eccKey, "tiers"), at)
	counted, err := g.conn.ReadPublic(at)
	if err != nil {
		t.Fatal(err)
	}
	c := secretOf(at, counted.Name.Buffer, nil)
	want := authPolicy(t, c)
	for _, secret := range []string{"", "wrong", "tiers"} {
		wantUnmet(t, g.sign(nil, g.policy(want, []blob.PolicyCommand{c}), []byte(secret)),
			"it asks for the secret of the object at 0x81005555, and the TPM counts wrong ones: this program does not try secrets that a key file asks for")
	}
	if n := g.tries(); n != 0 {
		t.Errorf("the TPM has counted %d tries", n)
	}
}

func TestSignedPolicies(t *testing.T) {
	for _, kind := range []tpm2.TPMAlgID{tpm2.TPMAlgRSA, tpm2.TPMAlgECC} {
		t.Run(fmt.Sprint(kind), func(t *testing.T) {
			g := newPolicyRig(t)
			signer, other := newPolicySigner(t, kind), newPolicySigner(t, tpm2.TPMAlgECC)
			zero := g.pcr(16)
			g.extend(16)
			one := g.pcr(16)
			opening := signer.opening()
			want := authPolicy(t, opening)
			key := g.key(want, "motdepasse")
			p := g.policy(want, []blob.PolicyCommand{opening},
				signer.signsDigest(t, authPolicy(t, one), "wrong", g.pcr(0)), other.signs(t, "foreign", one), signer.signs(t, "initrd", zero),
				signer.signs(t, "", one))
			for i, commands := range []int{14, 3, 3} {
				before := g.tap.Count()
				if err := g.sign(key, p, []byte{}); err != nil {
					t.Fatal(err)
				}
				if n := g.tap.Count() - before; n != commands {
					t.Errorf("signature %d took %d commands, want %d: %x", i, n, commands, g.codes(before))
				}
			}
			g.reset(16)
			if err := g.sign(key, p, []byte{}); err != nil {
				t.Error(err)
			}
			g.extend(16)
			if err := g.sign(key, p, []byte{}); err != nil {
				t.Error(err)
			}
			p = g.policy(want, []blob.PolicyCommand{opening}, signer.signs(t, "initrd", zero), signer.signs(t, "", g.pcr(16, 23)))
			g.extend(16)
			wantUnmet(t, g.sign(key, p, []byte{}),
				"none of the 2 signed policies in the file can be met: initrd: PCR 16 differs; number 2: one or more of PCRs 16,23 differ")
			wantUnmet(t, g.sign(key, g.policy(want, []blob.PolicyCommand{opening}), []byte{}),
				fmt.Sprintf("it needs a policy signed by key %x…, and there is none in the file", name(signer)[:8]))
			if objects, err := g.conn.Handles(0x80000000); err != nil || len(objects) != 2 {
				t.Errorf("the TPM has %d objects, want parent and key (%v)", len(objects), err)
			}
			p = g.policy(want, []blob.PolicyCommand{opening}, signer.signs(t, "unseal", command(tpm2.TPMCCPolicyCommandCode, 0, 0, 1, 0x5e)))
			wantUnmet(t, g.sign(key, p, []byte{}), "the signed policy in the file cannot be met: unseal: it does not allow TPM2_Sign (TPM2_PolicyCommandCode)")
			// A way out by the secret, which is used only when nothing else holds.
			p = g.policy(want, []blob.PolicyCommand{opening}, signer.signs(t, "initrd", zero), signer.signs(t, "backup", policy.AuthValue()))
			err := g.sign(key, p, nil)
			wantUnmet(t, err, "none of the 2 signed policies in the file can be met: initrd: PCR 16 differs; backup: it needs the key's secret")
			if why := new(policy.Unmet); !errors.As(err, &why) || !why.Secret {
				t.Error("it does not say that a secret would help")
			}
			if err := g.sign(key, p, []byte("motdepasse")); err != nil {
				t.Error(err)
			}
			if n := g.tries(); n != 0 {
				t.Errorf("the TPM has counted %d tries", n)
			}
		})
	}
}

// TestSignedPolicyRefused has signed policies that are met, and after which the TPM refuses the
// command: the next one is run.
func TestSignedPolicyRefused(t *testing.T) {
	g := newPolicyRig(t)
	signer := newPolicySigner(t, tpm2.TPMAlgECC)
	opening := signer.opening()
	want := authPolicy(t, opening)
	key := g.key(want, "motdepasse")
	locality := signer.signs(t, "firmware", command(tpm2.TPMCCPolicyLocality, 0x10))
	presence := signer.signs(t, "console", command(tpm2.TPMCCPolicyPhysicalPresence))
	now, backup := signer.signs(t, "initrd", g.pcr(16)), signer.signs(t, "backup", policy.AuthValue())
	sign := func(p *policy.Policy) (err error) {
		for n := 1; ; n++ {
			err = g.sign(key, p, []byte("motdepasse"))
			if why := new(policy.Unmet); !errors.As(err, &why) || !why.Another || n > 9 {
				return err
			}
		}
	}
	p := g.policy(want, []blob.PolicyCommand{opening}, backup, locality, presence, now)
	for i, commands := range []int{16, 3, 3} {
		before := g.tap.Count()
		if err := sign(p); err != nil {
			t.Fatal(err)
		}
		if n := g.tap.Count() - before; i > 0 && n != commands {
			t.Errorf("signature %d took %d commands, want %d: %x", i, n, commands, g.codes(before))
		}
	}
	g.extend(16)
	for range 2 {
		if err := sign(p); err != nil {
			t.Errorf("by the secret: %v", err)
		}
	}
	p = g.policy(want, []blob.PolicyCommand{opening}, locality, presence, now)
	for range 2 {
		wantUnmet(t, sign(p), "none of the 3 signed policies in the file can be met: firmware: it requires another locality than this program's; "+
			"console: it needs physical presence; initrd: PCR 16 differs")
	}
	wantUnmet(t, sign(g.policy(want, []blob.PolicyCommand{opening}, presence)), "the signed policy in the file cannot be met: console: it needs physical presence")
	g.reset(16)
	if err := sign(p); err != nil {
		t.Error(err)
	}
	if n := g.tries(); n != 0 {
		t.Errorf("the TPM has counted %d tries", n)
	}
}

// TestSignedPolicySecret has a signed policy that asks for the owner's secret, which is another
// than the given one: the next one is run.
func TestSignedPolicySecret(t *testing.T) {
	g := newPolicyRig(t)
	signer := newPolicySigner(t, tpm2.TPMAlgECC)
	opening := signer.opening()
	want := authPolicy(t, opening)
	key := g.key(want, "")
	if _, err := tpm20.Run(g.conn, tpm2.HierarchyChangeAuth{
		AuthHandle: tpm20.Hierarchy(tpm2.TPMRHOwner).Auth(nil), NewAuth: tpm2.TPM2BAuth{Buffer: []byte("proprio")},
	}); err != nil {
		t.Fatal(err)
	}
	owner := signer.signs(t, "owner", secretOf(tpm2.TPMRHOwner, []byte{0x40, 0, 0, 1}, nil))
	now := signer.signs(t, "initrd", g.pcr(16))
	p := g.policy(want, []blob.PolicyCommand{opening}, owner, now)
	if err := g.sign(key, p, []byte("wrong")); err != nil {
		t.Error(err)
	}
	g.extend(16)
	wantUnmet(t, g.sign(key, p, []byte("wrong")), "none of the 2 signed policies in the file can be met: initrd: PCR 16 differs; "+
		"owner: the given secret is not that of the owner hierarchy")
	if err := g.sign(key, p, []byte("proprio")); err != nil {
		t.Error(err)
	}
}

func name(s *policySigner) []byte {
	area, _ := tpm2.Unmarshal[tpm2.TPMTPublic](s.Public)
	n, _ := tpm2.ObjectName(area)
	return n.Buffer
}

// TestSignedPolicyChain has a signed policy that wants a signed policy, and commands
// behind the one that is signed.
func TestSignedPolicyChain(t *testing.T) {
	g := newPolicyRig(t)
	first, second := newPolicySigner(t, tpm2.TPMAlgECC), newPolicySigner(t, tpm2.TPMAlgECC)
	commands := []blob.PolicyCommand{first.opening(), policy.AuthValue()}
	want := authPolicy(t, commands...)
	chain := first.signs(t, "chain", second.opening(), g.pcr(23))
	key := g.key(want, "motdepasse")
	p := g.policy(want, commands, chain, second.signs(t, "leaf", g.pcr(16)))
	for range 2 {
		if err := g.sign(key, p, []byte("motdepasse")); err != nil {
			t.Fatal(err)
		}
	}
	g.extend(16)
	wantUnmet(t, g.sign(key, p, []byte("motdepasse")), "none of the 2 signed policies in the file can be met: "+
		fmt.Sprintf("chain: none of the 2 signed policies in the file can be met: chain: it is signed by key %x…, not %x…; leaf: PCR 16 differs; leaf: it is signed by key %[2]x…, not %[1]x…",
			name(first)[:8], name(second)[:8]))

	// One that wants itself has an end.
	p = g.policy(want, commands, first.signs(t, "snake", first.opening(), g.pcr(23)), first.signs(t, "snake", first.opening(), g.pcr(23)))
	if err := g.sign(key, p, []byte("motdepasse")); !errors.As(err, new(*policy.Unmet)) {
		t.Errorf("a policy that wants itself gave %v", err)
	}
}

func TestPolicyTicketOfClearedTPM(t *testing.T) {
	g := newPolicyRig(t)
	signer := newPolicySigner(t, tpm2.TPMAlgECC)
	opening := signer.opening()
	want := authPolicy(t, opening)
	p := g.policy(want, []blob.PolicyCommand{opening}, signer.signs(t, "a", g.pcr(16)))
	if err := g.sign(g.key(want, ""), p, []byte{}); err != nil {
		t.Fatal(err)
	}
	if _, err := tpm20.Run(g.conn, tpm2.Clear{AuthHandle: tpm20.Hierarchy(tpm2.TPMRHLockout).Auth(nil)}); err != nil {
		t.Fatal(err)
	}
	g.conn.EndSessions()
	g.begin()
	if err := g.sign(g.key(want, ""), p, []byte{}); err != nil {
		t.Errorf("after the TPM was cleared: %v", err)
	}
}
