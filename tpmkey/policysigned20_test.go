package tpmkey_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-tpm/tpm2"

	"maclef/blob"
	"maclef/internal/policy"
	"maclef/internal/tpm20"
	"maclef/internal/tpmtest"
	"maclef/tpmkey"
)

// signedPolicyKey makes a key whose policies somebody signs, with the secret
// "motdepasse": for PCR 16 as it is in a new TPM ("initrd"), for PCR 16 after
// "changed", and for the secret ("backup").
func signedPolicyKey(t *testing.T, sw *tpmtest.SWTPM, kind tpm2.TPMAlgID) blob.Key {
	t.Helper()
	signer := tpmtest.NewPolicySigner(t, kind)
	opening := blob.PolicyCommand{Code: uint32(tpm2.TPMCCPolicyAuthorize), Policy: signer.Opening()}
	want, err := policy.Digest(tpm2.TPMAlgSHA256, []blob.PolicyCommand{opening})
	if err != nil {
		t.Fatal(err)
	}
	file := blob.TSS2{Parent: 0x81000001, Policy: []blob.PolicyCommand{opening}}
	changed := sha256.Sum256([]byte("changed"))
	extended := sha256.Sum256(append(make([]byte, 32), changed[:]...))
	for _, p := range []struct {
		name    string
		command blob.PolicyCommand
	}{
		{"initrd", pcr16(t, make([]byte, 32))}, {"", pcr16(t, extended[:])}, {"backup", policy.AuthValue()},
	} {
		commands := []blob.PolicyCommand{p.command}
		approved, err := policy.Digest(tpm2.TPMAlgSHA256, commands)
		if err != nil {
			t.Fatal(err)
		}
		commands = append(commands, blob.PolicyCommand{Code: opening.Code, Policy: signer.Closing(t, approved)})
		file.AuthPolicy = append(file.AuthPolicy, blob.AuthPolicy{Name: p.name, Policy: commands})
	}
	area, err := blob.NewTSS2Template(blob.TSS2Template{Type: "p256", NeedSecret: true, AuthPolicy: want})
	if err != nil {
		t.Fatal(err)
	}
	file.Private, file.Public = createRaw20(t, sw, area, "motdepasse", nil)
	return reread(t, &file)
}

// pcr16 is TPM2_PolicyPCR for a value of PCR 16.
func pcr16(t *testing.T, value []byte) blob.PolicyCommand {
	t.Helper()
	selection := []policy.PCRSelection{{Bank: tpm2.TPMAlgSHA256, PCRs: 1 << 16}}
	c, err := policy.PCRs(tpm2.TPMAlgSHA256, selection, func(tpm2.TPMIAlgHash, []int) (map[int][]byte, error) {
		return map[int][]byte{16: value}, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// createRaw20 makes a key, or seals data, under 0x81000001.
func createRaw20(t *testing.T, sw *tpmtest.SWTPM, template []byte, secret string, data []byte) (private, public []byte) {
	t.Helper()
	area, err := tpm2.Unmarshal[tpm2.TPMTPublic](template)
	if err != nil {
		t.Fatal(err)
	}
	tpm := sw.Dial()
	defer tpm.Close()
	conn := tpm20.New(tpm)
	parent, err := conn.ReadPublic(0x81000001)
	if err != nil {
		t.Fatal(err)
	}
	rsp, err := tpm20.Run(conn, tpm2.Create{
		ParentHandle: parent.Auth(nil), InPublic: tpm2.New2B(*area),
		InSensitive: tpm2.TPM2BSensitiveCreate{Sensitive: &tpm2.TPMSSensitiveCreate{
			UserAuth: tpm2.TPM2BAuth{Buffer: []byte(secret)},
			Data:     tpm2.NewTPMUSensitiveCreate(&tpm2.TPM2BSensitiveData{Buffer: data}),
		}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return tpm2.Marshal(rsp.OutPrivate), tpm2.Marshal(rsp.OutPublic)
}

func TestSignedPolicyFile(t *testing.T) {
	t.Parallel()
	for _, kind := range []tpm2.TPMAlgID{tpm2.TPMAlgRSA, tpm2.TPMAlgECC} {
		sw := tpmtest.Start(t, tpmtest.Keys20)
		file := signedPolicyKey(t, sw, kind)
		p := tpmtest.StartProxy(t, sw)
		tpm := openName(t, p.Name)
		k, err := tpm.Load(t.Context(), file, &tpmkey.LoadOptions{Auth: motdepasse()})
		if err != nil {
			t.Fatal(err)
		}
		defer k.Close()
		for range 3 {
			if err := signs(k); err != nil {
				t.Error(err)
			}
		}
		n := operations(t, p, func() {
			if err := signs(k); err != nil {
				t.Error(err)
			}
		})
		if n != 3 {
			t.Errorf("a signature took %d commands, want 3: two of the policy and the signature", n)
		}
		sendAll(t, p, tpmtest.PCRExtend(16, "changed"))
		if err := signs(k); err != nil {
			t.Errorf("by the second policy: %v", err)
		}
		sendAll(t, p, tpmtest.PCRExtend(16, "changed"))
		for range 2 {
			if err := signs(k); err != nil {
				t.Errorf("by the secret: %v", err)
			}
		}
		wantTries(t, tpm, 0)

		// Without the way out.
		tss2 := file.(*blob.TSS2)
		tss2.AuthPolicy = tss2.AuthPolicy[:2]
		other, err := tpm.Load(t.Context(), file, &tpmkey.LoadOptions{Auth: motdepasse()})
		if err != nil {
			t.Fatal(err)
		}
		defer other.Close()
		wantUnmet(t, signs(other), "(none of the 2 signed policies in the file can be met: initrd: PCR 16 differs; number 2: PCR 16 differs)")
		sendAll(t, p, tpmtest.PCRReset(16))
		if err := signs(other); err != nil {
			t.Error(err)
		}
	}
}

// Keys with policies, among others, in a TPM that is full, restarts, and loses its
// sessions.
func TestPolicyAmongOthers(t *testing.T) {
	t.Parallel()
	sw := tpmtest.Start(t, tpmtest.Keys20)
	signed := signedPolicyKey(t, sw, tpm2.TPMAlgECC)
	p := tpmtest.StartProxy(t, sw)
	tpm := openName(t, p.Name)
	var keys []*tpmkey.Key
	load := func(file blob.Key, opts *tpmkey.LoadOptions) {
		t.Helper()
		k, err := tpm.Load(t.Context(), file, opts)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { k.Close() })
		keys = append(keys, k)
	}
	for _, name := range []string{"e2-rsa", "e2-p256", "e2-p384", "e2-rsa-pcr16", "e2-p256-pcr"} {
		load(fixture20(t, name), nil)
	}
	load(fixture20(t, "e2-p256-auth"), &tpmkey.LoadOptions{Auth: motdepasse()})
	load(signed, &tpmkey.LoadOptions{Auth: motdepasse()})
	all := func(when string, order []*tpmkey.Key) {
		t.Helper()
		for i, k := range order {
			if err := signs(k); err != nil {
				t.Errorf("%s, key %d: %v", when, i, err)
			}
		}
	}
	all("first", keys)
	backwards := slices.Clone(keys)
	slices.Reverse(backwards)
	all("backwards", backwards)
	for _, order := range [][]*tpmkey.Key{keys, backwards, keys} {
		p.FlushSessions()
		all("without its sessions", order)
	}
	wantTries(t, tpm, 0)
}

// A signature by a signed policy, with the TPM restarted, or what is in it lost, before
// each of its commands: it is made, or refused for a good reason, and costs no try of a
// secret.
func TestPolicyLost(t *testing.T) {
	t.Parallel()
	sw := tpmtest.Start(t, tpmtest.Keys20)
	signed := signedPolicyKey(t, sw, tpm2.TPMAlgECC)
	p := tpmtest.StartProxy(t, sw)
	tpm := openName(t, p.Name)
	for _, file := range []blob.Key{signed, fixture20(t, "e2-rsa-pcr16")} {
		k, err := tpm.Load(t.Context(), file, &tpmkey.LoadOptions{Auth: motdepasse()})
		if err != nil {
			t.Fatal(err)
		}
		if err := signs(k); err != nil {
			t.Fatal(err)
		}
		for _, fault := range tpmtest.LostStates20() {
			for i, past := 0, false; !past && i < 40; i++ {
				p.Arm(i, fault)
				err := signs(k)
				past = p.Disarm()
				if err != nil {
					t.Errorf("%s before command %d: %v", fault.Name, i, err)
				}
				p.Revive()
				sendAll(t, p, tpmtest.LockoutReset())
				if err := signs(k); err != nil {
					t.Errorf("%s before command %d, after that: %v", fault.Name, i, err)
				}
			}
		}
		k.Close()
	}
}

// Data with a secret that its policy does not ask for: what comes back encrypted is not
// garbled by another one.
func TestPolicyWithoutSecret(t *testing.T) {
	t.Parallel()
	file := blob.TSS2{Type: blob.TSS2Sealed, Parent: 0x81000001, Policy: []blob.PolicyCommand{pcr16(t, make([]byte, 32))}}
	want, err := policy.Digest(tpm2.TPMAlgSHA256, file.Policy)
	if err != nil {
		t.Fatal(err)
	}
	area, err := blob.NewTSS2Template(blob.TSS2Template{Type: "sealed", NeedSecret: true, AuthPolicy: want})
	if err != nil {
		t.Fatal(err)
	}
	sw := tpmtest.Start(t, tpmtest.Keys20)
	file.Private, file.Public = createRaw20(t, sw, area, "motdepasse", []byte("bonjour"))
	p := tpmtest.StartProxy(t, sw)
	tpm := openName(t, p.Name)
	for _, emptyAuth := range []bool{false, true} {
		file.EmptyAuth = emptyAuth
		for _, secret := range []tpmkey.Secret{motdepasse(), tpmkey.Password([]byte("another"))} {
			data, err := tpm.Unseal(t.Context(), reread(t, &file), &tpmkey.LoadOptions{Auth: secret})
			if string(data) != "bonjour" {
				t.Errorf("unsealed %q, %v", data, err)
			}
		}
	}
	if slices.ContainsFunc(p.Exchanges(), func(e tpmtest.Exchange) bool { return bytes.Contains(e.Response, []byte("bonjour")) }) {
		t.Error("the data crossed in clear")
	}
	wantTries(t, tpm, 0)
}

// A key that asks for the owner's secret, not for one of its own.
func TestPolicySecretFile(t *testing.T) {
	t.Parallel()
	command := blob.PolicyCommand{Code: uint32(tpm2.TPMCCPolicySecret), Policy: []byte{0x40, 0, 0, 1, 0, 4, 0x40, 0, 0, 1, 0, 0}}
	file := blob.TSS2{Parent: 0x81000001, Policy: []blob.PolicyCommand{command}}
	want, err := policy.Digest(tpm2.TPMAlgSHA256, file.Policy)
	if err != nil {
		t.Fatal(err)
	}
	area, err := blob.NewTSS2Template(blob.TSS2Template{Type: "p256", AuthPolicy: want})
	if err != nil {
		t.Fatal(err)
	}
	sw := tpmtest.Start(t, tpmtest.Owned20)
	file.Private, file.Public = createRaw20(t, sw, area, "", nil)
	p := tpmtest.StartProxy(t, sw)
	tpm := openName(t, p.Name)
	for _, tt := range []struct {
		secret string
		kind   error
		why    string
	}{
		{"proprio", nil, ""},
		{"wrong", tpmkey.ErrWrongKeySecret, "wrong secret (TPM_RC_BAD_AUTH; the key's policy asks for the secret of the owner hierarchy, not for the key's own)"},
		{"", tpmkey.ErrPolicy, "it asks for the secret of the owner hierarchy, which is not empty"},
		{"proprio", nil, ""},
	} {
		k, err := tpm.Load(t.Context(), reread(t, &file), &tpmkey.LoadOptions{Auth: tpmkey.Password([]byte(tt.secret))})
		if err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if err := signs(k); !errors.Is(err, tt.kind) || err != nil && !strings.Contains(err.Error(), tt.why) {
				t.Errorf("with %q: %v", tt.secret, err)
			}
		}
		k.Close()
	}
	k, err := tpm.Load(t.Context(), reread(t, &file), nil)
	if err == nil {
		err = signs(k)
		k.Close()
	}
	if !errors.Is(err, tpmkey.ErrSecretNeeded) || !strings.Contains(err.Error(), "the secret of the owner hierarchy, which the key's policy asks for") {
		t.Errorf("without a secret: %v", err)
	}
	if slices.ContainsFunc(p.Exchanges(), func(e tpmtest.Exchange) bool { return bytes.Contains(e.Command, []byte("proprio")) }) {
		t.Error("the secret crossed in clear")
	}
	wantTries(t, tpm, 0)
}
