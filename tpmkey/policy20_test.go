package tpmkey_test

import (
	"bytes"
	"errors"
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-tpm/tpm2"

	"maclef/blob"
	"maclef/internal/policy"
	"maclef/internal/pubarea"
	"maclef/internal/tpmtest"
	"maclef/tpmkey"
)

// openKeys20 opens the TPM that owns the keys of tpm2, and gives a way to it beside.
func openKeys20(t *testing.T) (*tpmkey.TPM, *tpmtest.Proxy) {
	t.Helper()
	p := tpmtest.StartProxy(t, tpmtest.Start(t, tpmtest.Keys20))
	return openName(t, p.Name), p
}

func sendAll(t *testing.T, p *tpmtest.Proxy, commands ...[]byte) {
	t.Helper()
	for _, cmd := range commands {
		rsp, err := p.Send(cmd)
		if err != nil || !bytes.Equal(rsp[6:10], make([]byte, 4)) {
			t.Fatalf("the TPM answered %x, %v", rsp, err)
		}
	}
}

func wantUnmet(t *testing.T, err error, why string) {
	t.Helper()
	if !errors.Is(err, tpmkey.ErrPolicy) || !strings.Contains(err.Error(), why) {
		t.Errorf("an unmet policy gave %v, want %q", err, why)
	}
}

// The keys of openssl_tpm2_engine that are bound to PCRs.
func TestPolicyFixtures(t *testing.T) {
	t.Parallel()
	tpm, p := openKeys20(t)
	for _, f := range []struct {
		name, why string
		pcr       uint32
	}{
		{"e2-rsa-pcr16", "PCR 16 differs", 16},
		{"e2-p256-pcr", "one or more of PCRs 16,23 differ", 23},
	} {
		k, err := tpm.Load(t.Context(), fixture20(t, f.name), nil)
		if err != nil {
			t.Fatal(err)
		}
		defer k.Close()
		if err := signs(k); err != nil {
			t.Error(err)
		}
		n := operations(t, p, func() {
			for range 3 {
				if err := signs(k); err != nil {
					t.Error(err)
				}
			}
		})
		if n != 6 {
			t.Errorf("%s: three signatures took %d commands, want 6: the policy and the signature", f.name, n)
		}
		sendAll(t, p, tpmtest.PCRExtend(f.pcr, "changed"))
		wantUnmet(t, signs(k), f.why)
		wantUnmet(t, signs(k), f.why)
		sendAll(t, p, tpmtest.PCRReset(f.pcr))
		if err := signs(k); err != nil {
			t.Errorf("%s after the PCR was reset: %v", f.name, err)
		}
	}
	wantTries(t, tpm, 0)
}

func wantTries(t *testing.T, tpm *tpmkey.TPM, want int) {
	t.Helper()
	s, err := tpm.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if s.Lockout.Tries != want {
		t.Errorf("the TPM has counted %d tries, want %d", s.Lockout.Tries, want)
	}
}

// A new key with a policy, and a secret besides.
func TestCreateWithPolicy(t *testing.T) {
	t.Parallel()
	tpm, p := openKeys20(t)
	policy, err := tpmkey.ParsePolicy("pcr:sha256:7,16")
	if err != nil {
		t.Fatal(err)
	}
	for _, secret := range []bool{false, true} {
		opts := &tpmkey.CreateOptions{Type: tpmkey.P256, Policy: policy}
		load := &tpmkey.LoadOptions{}
		if secret {
			opts.Auth, load.Auth = motdepasse(), motdepasse()
		}
		file, err := tpm.Create(t.Context(), opts)
		if err != nil {
			t.Fatal(err)
		}
		k, err := tpm.Load(t.Context(), reread(t, file), load)
		if err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if err := signs(k); err != nil {
				t.Error(err)
			}
		}
		sendAll(t, p, tpmtest.PCRExtend(16, "changed"))
		wantUnmet(t, signs(k), "one or more of PCRs 7,16 differ")
		wantTries(t, tpm, 0)
		sendAll(t, p, tpmtest.PCRReset(16))
		if err := signs(k); err != nil {
			t.Error(err)
		}
		k.Close()
		if !secret {
			continue
		}
		k, err = tpm.Load(t.Context(), reread(t, file), &tpmkey.LoadOptions{Auth: tpmkey.Password([]byte("wrong"))})
		if err == nil {
			err = signs(k)
			k.Close()
		}
		if !errors.Is(err, tpmkey.ErrWrongKeySecret) {
			t.Errorf("a wrong secret gave %v", err)
		}
		wantTries(t, tpm, 1)
	}
}

// A new key's policy is written as openssl_tpm2_engine writes it.
func TestPolicyLikeFixtures(t *testing.T) {
	t.Parallel()
	tpm, _ := openKeys20(t)
	for name, text := range map[string]string{"e2-rsa-pcr16": "pcr:sha256:16", "e2-p256-pcr": "pcr:16,23"} {
		policy, err := tpmkey.ParsePolicy(text)
		if err != nil {
			t.Fatal(err)
		}
		made, err := tpm.Create(t.Context(), &tpmkey.CreateOptions{Type: tpmkey.P256, Policy: policy})
		if err != nil {
			t.Fatal(err)
		}
		ours, theirs := made.(*blob.TSS2), fixture20(t, name)
		if !reflect.DeepEqual(ours.Policy, theirs.Policy) || !bytes.Equal(pubarea.TPMT(ours.Public).AuthPolicy.Buffer, pubarea.TPMT(theirs.Public).AuthPolicy.Buffer) {
			t.Errorf("%s: policy %x, and theirs is %x", name, ours.Policy, theirs.Policy)
		}
	}
}

func TestSealWithPolicy(t *testing.T) {
	t.Parallel()
	tpm, p := openKeys20(t)
	policy, err := tpmkey.ParsePolicy("pcr:16")
	if err != nil {
		t.Fatal(err)
	}
	for _, secret := range []tpmkey.Secret{{}, motdepasse()} {
		file, err := tpm.Seal(t.Context(), []byte("bonjour"), &tpmkey.SealOptions{Policy: policy, Auth: secret})
		if err != nil {
			t.Fatal(err)
		}
		file, load := reread(t, file), &tpmkey.LoadOptions{Auth: secret}
		if data, err := tpm.Unseal(t.Context(), file, load); string(data) != "bonjour" {
			t.Errorf("unsealed %q, %v", data, err)
		}
		sendAll(t, p, tpmtest.PCRExtend(16, "changed"))
		_, err = tpm.Unseal(t.Context(), file, load)
		wantUnmet(t, err, "PCR 16 differs")
		sendAll(t, p, tpmtest.PCRReset(16))
		if data, err := tpm.Unseal(t.Context(), file, load); string(data) != "bonjour" {
			t.Errorf("unsealed %q, %v", data, err)
		}
	}
	wantTries(t, tpm, 0)
}

func TestPolicyBanks(t *testing.T) {
	t.Parallel()
	tpm, _ := openKeys20(t)
	policy, err := tpmkey.ParsePolicy("pcr:sha3-256:7")
	if err != nil {
		t.Fatal(err)
	}
	_, err = tpm.Create(t.Context(), &tpmkey.CreateOptions{Type: tpmkey.P256, Policy: policy})
	if !errors.Is(err, tpmkey.ErrNotSupported) || !strings.Contains(err.Error(), "no active PCRs of bank sha3-256; it has sha1, sha256") {
		t.Errorf("a bank that the TPM has not gave %v", err)
	}
	if policy, err = tpmkey.ParsePolicy("pcr:sha1:16+sha256:7,16"); err != nil {
		t.Fatal(err)
	}
	file, err := tpm.Create(t.Context(), &tpmkey.CreateOptions{Type: tpmkey.P256, Policy: policy})
	if err != nil {
		t.Fatal(err)
	}
	k, err := tpm.Load(t.Context(), reread(t, file), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	if err := signs(k); err != nil {
		t.Error(err)
	}
}

// A file whose policy is not that of its key is refused.
func TestPolicyOfFile(t *testing.T) {
	t.Parallel()
	tpm, _ := openKeys20(t)
	for _, tt := range []struct {
		name   string
		change func(*blob.TSS2)
		kind   error
		why    string
	}{
		{"none", func(t *blob.TSS2) { t.Policy = nil }, tpmkey.ErrPolicy, "the steps of its policy are not known (only their digest is stored, bff2d58e9813f97c…)"},
		{"another", func(t *blob.TSS2) { t.Policy[0].Policy[20]++ }, tpmkey.ErrPolicy, "the policy of the file is not the one the key was made with (authPolicy)"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			file := fixture20(t, "e2-rsa-pcr16")
			tt.change(file)
			k, err := tpm.Load(t.Context(), file, nil)
			if err == nil {
				err = signs(k)
				k.Close()
			}
			if !errors.Is(err, tt.kind) || !strings.Contains(err.Error(), tt.why) {
				t.Errorf("the TPM gave %v, want %q", err, tt.why)
			}
		})
	}
}

func parsePolicy(t *testing.T, text string) *tpmkey.Policy {
	t.Helper()
	p, err := tpmkey.ParsePolicy(text)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// Keys whose file has only the digest of a policy, as a pair of tpm2-tools has.
func TestLoadWithPolicy(t *testing.T) {
	t.Parallel()
	tpm, p := openKeys20(t)
	for _, tt := range []struct {
		made, given string
		secret      bool
		why         string // "" if it signs
	}{
		{"pcr:7,16", "pcr:sha256:7,16", false, ""},
		{"pcr:7,16", "", false, "the steps of its policy are not known (only their digest is stored, "},
		{"pcr:7,16", "pcr:7", false, "not the policy that it was made with (pcr:sha256:7 gives the digest "},
		{"pcr:16", "pcr:16", true, "not the policy that it was made with (that is pcr:sha256:16+auth, not pcr:sha256:16)"},
		{"pcr:16", "pcr:16+password", true, ""},
		{"command:sign+auth+pcr:16", "command:sign+auth+pcr:16", true, ""},
		{"auth", "", true, ""}, // recognised
		{"command:sign", "", false, ""},
		{"command:sign", "", true, ""},
		{"", "pcr:16", false, "not the policy that it was made with (it was made without one, and pcr:sha256:16 was given)"},
	} {
		t.Run(tt.made+" by "+tt.given, func(t *testing.T) {
			create, load := &tpmkey.CreateOptions{Type: tpmkey.P256}, &tpmkey.LoadOptions{}
			if tt.made != "" {
				create.Policy = parsePolicy(t, tt.made)
			}
			if tt.given != "" {
				load.Policy = parsePolicy(t, tt.given)
			}
			if tt.secret {
				create.Auth, load.Auth = motdepasse(), motdepasse()
			}
			made, err := tpm.Create(t.Context(), create)
			if err != nil {
				t.Fatal(err)
			}
			file := *made.(*blob.TSS2)
			file.Policy = nil
			before := p.Count()
			k, err := tpm.Load(t.Context(), reread(t, &file), load)
			if tt.why != "" {
				if err == nil || !strings.Contains(err.Error(), tt.why) {
					t.Errorf("got %v, want %q", err, tt.why)
				}
				for _, e := range p.Exchanges()[before:] {
					if e.Ordinal != 0x17a && e.Ordinal != 0x17e { // TPM2_GetCapability, TPM2_PCR_Read
						t.Errorf("command %#x was sent", e.Ordinal)
					}
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			defer k.Close()
			for range 2 {
				if err := signs(k); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wantTries(t, tpm, 0)

	made, err := tpm.Create(t.Context(), &tpmkey.CreateOptions{Type: tpmkey.P256, Policy: parsePolicy(t, "command:certify")})
	if err != nil {
		t.Fatal(err)
	}
	file := *made.(*blob.TSS2)
	file.Policy = nil
	k, err := tpm.Load(t.Context(), reread(t, &file), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	if err := signs(k); !errors.Is(err, tpmkey.ErrNotSupported) {
		t.Errorf("a key for another command gave %v", err)
	}
}

// A key that its secret or its policy authorizes: the policy does without the secret.
func TestPolicyInsteadOfSecret(t *testing.T) {
	t.Parallel()
	sw := tpmtest.Start(t, tpmtest.Keys20)
	want, err := policy.Digest(tpm2.TPMAlgSHA256, []blob.PolicyCommand{pcr16(t, make([]byte, 32))})
	if err != nil {
		t.Fatal(err)
	}
	area, err := blob.NewTSS2Template(blob.TSS2Template{Type: "p256", NeedSecret: true, AuthPolicy: want})
	if err != nil {
		t.Fatal(err)
	}
	either, err := tpm2.Unmarshal[tpm2.TPMTPublic](area)
	if err != nil {
		t.Fatal(err)
	}
	either.ObjectAttributes.UserWithAuth = true
	file := &blob.TSS2{Parent: 0x81000001}
	file.Private, file.Public = createRaw20(t, sw, tpm2.Marshal(either), "motdepasse", nil)
	p := tpmtest.StartProxy(t, sw)
	tpm := openName(t, p.Name)
	by := &tpmkey.LoadOptions{Policy: parsePolicy(t, "pcr:16")}
	k, err := tpm.Load(t.Context(), reread(t, file), by)
	if err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	if err := signs(k); err != nil {
		t.Errorf("by the policy: %v", err)
	}
	sendAll(t, p, tpmtest.PCRExtend(16, "changed"))
	wantUnmet(t, signs(k), "PCR 16 differs")
	if _, err := tpm.Load(t.Context(), reread(t, file), by); !errors.Is(err, tpmkey.ErrPolicy) || !strings.Contains(err.Error(), "PCRs have changed since it was made") {
		t.Errorf("with other PCRs: %v", err)
	}
	bySecret, err := tpm.Load(t.Context(), reread(t, file), &tpmkey.LoadOptions{Auth: motdepasse()})
	if err != nil {
		t.Fatal(err)
	}
	defer bySecret.Close()
	if err := signs(bySecret); err != nil {
		t.Errorf("by the secret: %v", err)
	}
	wantTries(t, tpm, 0)
}

// Sealed data with a policy whose steps the file does not have.
func TestUnsealWithPolicy(t *testing.T) {
	t.Parallel()
	tpm, p := openKeys20(t)
	made, err := tpm.Seal(t.Context(), []byte("bonjour"), &tpmkey.SealOptions{Policy: parsePolicy(t, "pcr:16+command:unseal"), Auth: motdepasse()})
	if err != nil {
		t.Fatal(err)
	}
	file := *made.(*blob.TSS2)
	file.Policy = nil
	load := &tpmkey.LoadOptions{Auth: motdepasse(), Policy: parsePolicy(t, "pcr:16+command:unseal+auth")}
	if data, err := tpm.Unseal(t.Context(), reread(t, &file), load); string(data) != "bonjour" {
		t.Errorf("unsealed %q, %v", data, err)
	}
	sendAll(t, p, tpmtest.PCRExtend(16, "changed"))
	_, err = tpm.Unseal(t.Context(), reread(t, &file), load)
	wantUnmet(t, err, "PCRs have changed since it was made")
	wantTries(t, tpm, 0)
}

// A policy for a TPM 1.2, and one that asks for the secret of a new key without one.
func TestPolicyRefused(t *testing.T) {
	t.Parallel()
	tpm12 := openName(t, tpmtest.Start(t, tpmtest.WellKnown).Socket)
	if _, err := tpm12.Load(t.Context(), parseFixture(t, "maclef"), &tpmkey.LoadOptions{Policy: parsePolicy(t, "auth")}); !errors.Is(err, tpmkey.ErrNotSupported) {
		t.Errorf("a policy of a TPM 1.2 key gave %v", err)
	}
	tpm, _ := openKeys20(t)
	_, err := tpm.Create(t.Context(), &tpmkey.CreateOptions{Type: tpmkey.P256, Policy: parsePolicy(t, "pcr:16+auth")})
	if !errors.Is(err, tpmkey.ErrSecretNeeded) || !strings.Contains(err.Error(), "the policy pcr:sha256:16+auth asks for the secret of what is made") {
		t.Errorf("a policy that asks for no secret gave %v", err)
	}
}
