package interop

import (
	"crypto"
	"os"
	"strings"
	"testing"

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
