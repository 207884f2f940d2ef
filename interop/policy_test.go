package interop

import (
	"crypto"
	"encoding/binary"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/google/go-tpm/tpm2"

	"maclef/blob"
)

// Keys that tpm2-tools made with a policy. Their pairs, the PEM files of tpm2_encodeobject, and
// keys that the TPM keeps have only the digest of the policy.
func TestTheirPolicies(t *testing.T) {
	c := newChip(t)
	c.write(t, messageFile, message)
	for _, tt := range []struct {
		name   string
		steps  [][]string // commands of tpm2-tools
		flag   string     // "" if the digest alone is enough
		secret bool
	}{
		{"PCRs", [][]string{{"tpm2_policypcr", "-l", "sha256:0,1,7"}}, "pcr:sha256:0,1,7", false},
		{"PCRs of two banks", [][]string{{"tpm2_policypcr", "-l", "sha1:0+sha256:16,23"}}, "pcr:sha1:0+sha256:16,23", false},
		{"PCRs and a password", [][]string{{"tpm2_policypcr", "-l", "sha256:16"}, {"tpm2_policypassword"}}, "pcr:16+password", true},
		{"a secret, then PCRs", [][]string{{"tpm2_policyauthvalue"}, {"tpm2_policypcr", "-l", "sha256:16"}}, "auth+pcr:16", true},
		{"a command and PCRs", [][]string{{"tpm2_policycommandcode", "TPM2_CC_Sign"}, {"tpm2_policypcr", "-l", "sha256:16"}}, "command:sign+pcr:16", false},
		{"a password", [][]string{{"tpm2_policypassword"}}, "", true},
		{"a command", [][]string{{"tpm2_policycommandcode", "TPM2_CC_Sign"}}, "", false},
		{"a secret and a command", [][]string{{"tpm2_policyauthvalue"}, {"tpm2_policycommandcode", "TPM2_CC_Sign"}}, "", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c.run(t, "tpm2_startauthsession", "-S", "trial.ctx") // a trial session
			for _, step := range tt.steps {
				c.run(t, step[0], append([]string{"-S", "trial.ctx", "-L", "policy.digest"}, step[1:]...)...)
			}
			c.run(t, "tpm2_flushcontext", "trial.ctx")
			parent := c.primary(t)
			create := []string{"-C", parent, "-G", "ecc256:ecdsa-sha256:null", "-L", "policy.digest", "-a", "fixedtpm|fixedparent|sensitivedataorigin|sign", "-u", "their.pub", "-r", "their.priv"}
			if tt.secret {
				create = append(create, "-p", secret)
			}
			c.run(t, "tpm2_create", create...)
			os.Remove(c.file("their.pem"))
			c.run(t, "tpm2_encodeobject", "-C", parent, "-u", "their.pub", "-r", "their.priv", "-o", "their.pem")
			c.run(t, "tpm2_load", "-C", parent, "-u", "their.pub", "-r", "their.priv", "-c", "their.ctx")
			const at = "0x81010005"
			c.run(t, "tpm2_evictcontrol", "-C", "o", "-c", "their.ctx", at)
			for _, key := range []string{"their.pub", "their.pem", "handle:" + at} {
				c.signsByPolicy(t, key, tt.flag, tt.secret)
			}
			c.run(t, "tpm2_evictcontrol", "-C", "o", "-c", at)
		})
	}
}

// signsByPolicy checks that a key signs with -policy, and that without it the error says what to do.
func (c *chip) signsByPolicy(t *testing.T, key, policy string, withSecret bool) {
	t.Helper()
	sign := []string{"sign", "-key", key, "-in", messageFile, "-out", "sig", "-force"}
	if withSecret {
		sign = append(sign, "-key-pass", "pass:"+secret)
	}
	if policy != "" {
		out, err := c.try(t, "tpmctl", sign...)
		if err == nil || !strings.Contains(string(out), "the steps of its policy are not known") || !strings.Contains(string(out), "-policy") {
			t.Errorf("%s without its policy: %v, %s", key, err, out)
		}
		if out, err = c.try(t, "tpmctl", append(sign, "-policy", "pcr:5+"+policy)...); err == nil {
			t.Errorf("%s by another policy: %s", key, out)
		}
		sign = append(sign, "-policy", policy)
	}
	c.run(t, "tpmctl", sign...)
	file, err := blob.ParsePair(c.read(t, "their.pub"), c.read(t, "their.priv"))
	if err != nil {
		t.Fatal(err)
	}
	if err := verify(file.PublicKey(), digest(crypto.SHA256), c.read(t, "sig"), crypto.SHA256); err != nil {
		t.Errorf("%s: %v", key, err)
	}
}

// Keys whose policy asks for the secret of the owner hierarchy, or of an NV index: it is asked for
// by that name, and refused by it.
func TestTheirPolicySecrets(t *testing.T) {
	c := newChip(t)
	c.write(t, messageFile, message)
	const index = 0x01500016
	c.run(t, "tpm2_nvdefine", fmt.Sprintf("%#x", index), "-C", "o", "-s", "8", "-a", "authread|authwrite|no_da", "-p", secret)
	c.run(t, "tpm2_changeauth", "-c", "o", secret)
	parent := c.ownedPrimary(t)
	for _, tt := range []struct {
		entity, owner string
		handle        uint32
		name          []byte
	}{
		{"o", "the owner hierarchy", 0x40000001, []byte{0x40, 0, 0, 1}},
		{fmt.Sprintf("%#x", index), "NV index 0x01500016", index, c.nvName(t, index)},
	} {
		t.Run(tt.owner, func(t *testing.T) {
			c.run(t, "tpm2_startauthsession", "-S", "trial.ctx")
			c.run(t, "tpm2_policysecret", "-S", "trial.ctx", "-c", tt.entity, "-L", "policy.digest", secret)
			c.run(t, "tpm2_flushcontext", "trial.ctx")
			c.run(t, "tpm2_create", "-C", parent, "-G", "ecc256", "-L", "policy.digest", "-a", "fixedtpm|fixedparent|sensitivedataorigin|sign", "-u", "their.pub", "-r", "their.priv")
			file, err := blob.ParsePair(c.read(t, "their.pub"), c.read(t, "their.priv"))
			if err != nil {
				t.Fatal(err)
			}
			body := binary.BigEndian.AppendUint32(nil, tt.handle)
			body = append(append(binary.BigEndian.AppendUint16(body, uint16(len(tt.name))), tt.name...), 0, 0)
			key, err := blob.NewTSS2(blob.TSS2{Parent: file.Parent, Public: file.Public, Private: file.Private,
				Policy: []blob.PolicyCommand{{Code: uint32(tpm2.TPMCCPolicySecret), Policy: body}}})
			if err != nil {
				t.Fatal(err)
			}
			pem, err := key.Marshal(blob.TSS2PEM)
			if err != nil {
				t.Fatal(err)
			}
			c.write(t, "their.pem", pem)
			c.asksFor(t, "their.pem", tt.owner)
			if tt.entity == "o" { // its digest tells that
				c.asksFor(t, "their.pub", tt.owner)
			}
		})
	}
}

// asksFor signs with a key whose policy asks for a secret of owner.
func (c *chip) asksFor(t *testing.T, key, owner string) {
	t.Helper()
	askpass := c.write(t, "askpass", []byte("#!/bin/sh\necho \"$1\" >\"$PROMPTS\"\necho "+secret+"\n"))
	if err := os.Chmod(askpass, 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PROMPTS", c.file("prompts"))
	t.Setenv("SSH_ASKPASS", askpass)
	t.Setenv("SSH_ASKPASS_REQUIRE", "force")
	sign := []string{"sign", "-key", key, "-srk-pass", "pass:" + secret, "-in", messageFile, "-out", "sig", "-force"}
	c.run(t, "tpmctl", sign...)
	if got, want := string(c.read(t, "prompts")), "Secret of "+owner+", which the policy of "+key+" asks for: \n"; got != want {
		t.Errorf("it asked %q, want %q", got, want)
	}
	out, err := c.try(t, "tpmctl", append(sign, "-key-pass", "pass:faux")...)
	if err == nil || !strings.Contains(string(out), "the key's policy asks for the secret of "+owner+", not for the key's own)\n") ||
		!strings.Contains(string(out), "hint: give the secret that the error names with -key-pass") {
		t.Errorf("with another secret: %v, %s", err, out)
	}
	if out := c.run(t, "tpmctl", "inspect", key); !strings.Contains(string(out), "its policy asks for that of "+owner+" (-key-pass)\n") {
		t.Errorf("inspect: %s", out)
	}
}

// ownedPrimary is primary for an owner hierarchy with a secret.
func (c *chip) ownedPrimary(t *testing.T) string {
	t.Helper()
	c.run(t, "tpm2_createprimary", "-C", "o", "-P", secret, "-G", "ecc", "-c", "primary.ctx",
		"-a", "fixedtpm|fixedparent|sensitivedataorigin|userwithauth|restricted|decrypt|noda")
	return "primary.ctx"
}

// nvName returns the name of an NV index.
func (c *chip) nvName(t *testing.T, index uint32) []byte {
	t.Helper()
	tpm := c.raw(t)
	defer tpm.Close()
	rsp, err := tpm2.NVReadPublic{NVIndex: tpm2.TPMHandle(index)}.Execute(tpm)
	if err != nil {
		t.Fatal(err)
	}
	return rsp.NVName.Buffer
}
