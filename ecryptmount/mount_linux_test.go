package main

import (
	"crypto/rsa"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"maclef/blob"
	"maclef/ecryptmount/internal/ecryptfs"
	"maclef/internal/cli"
	"maclef/internal/tpmtest"
)

// prepareIn does what a mount does before it needs kernel and TPM, in a directory
// with the directories secret, secret/inside and other, and recorded keys.
func prepareIn(t *testing.T, dir string, args ...string) (*session, error) {
	t.Helper()
	t.Chdir(dir)
	env := cli.NewEnv("ecryptmount", strings.NewReader(""), io.Discard, io.Discard)
	o, err := parse(env, args)
	if err != nil {
		t.Fatal(err)
	}
	s := &session{env: env, o: o, back: new(background)}
	t.Cleanup(s.release)
	return s, s.prepare()
}

func prepareDir(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for _, name := range []string{"secret/inside", "other"} {
		if err := os.MkdirAll(filepath.Join(dir, name), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"tpm12-tutorial/maclef", "tpm12-tutorial/oaep", "tpm12-tutorial/rsa512", "tpm12-tutorial/rsa1024", "tpm12-wellknown/stpm.key",
		"tpm2/e2-p256.pem", "tpm2/e2-rsa.pem", "tpm2/e2-sealed.pem"} {
		if err := os.WriteFile(filepath.Join(dir, filepath.Base(name)), tpmtest.Fixture(t, name), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestPrepareRefused(t *testing.T) {
	tests := []struct{ args, want, hint string }{
		{"nowhere", "mount nowhere: no such file or directory", "mkdir nowhere"},
		{"maclef", "mount maclef: it is not a directory", ""},
		{"/", "/ cannot be an eCryptfs directory", ""},
		{"secret secret/inside", "secret/inside is inside", ""},
		{"secret/inside secret", "secret/inside is inside", "put one beside the other"},
		{"-key nokey secret", "read nokey: no such file", "keygen nokey"},
		{"-user nobody-at-all secret", "-user nobody-at-all: there is no such user", ""},
		{"-key rsa512 secret", "the key rsa512 is too small: it encrypts 53 bytes, and the passphrase for file names has 64", "keygen rsa5122"},
		{"-key rsa512 -o ecryptfs_enable_filename_crypto=n secret", "Go refuses RSA keys below 1024 bits", "keygen rsa5122"},
		{"-key stpm.key secret", "cannot decrypt", "keygen stpm.key2"},
		{"-key e2-p256.pem secret", "e2-p256.pem is an EC key, which cannot encrypt", "keygen e2-p256.pem2"},
		{"-key e2-sealed.pem secret", "this is sealed data, not a key", "tpmctl unseal"},
	}
	for _, test := range tests {
		_, err := prepareIn(t, prepareDir(t), strings.Fields(test.args)...)
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v, want %q", test.args, err, test.want)
			continue
		}
		var hinted interface{ Hint() string }
		if test.hint != "" && (!errors.As(err, &hinted) || !strings.Contains(hinted.Hint(), test.hint)) {
			t.Errorf("%s: %v has no hint with %q", test.args, err, test.hint)
		}
	}
}

func TestPrepareRecord(t *testing.T) {
	file, err := blob.Parse(tpmtest.Fixture(t, "tpm12-tutorial/maclef"))
	if err != nil {
		t.Fatal(err)
	}
	r := goodRecord()
	if r.Key, err = ecryptfs.Fingerprint(file.PublicKey().(*rsa.PublicKey)); err != nil {
		t.Fatal(err)
	}
	r.KeyBytes, r.Passthrough = 24, true
	good, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	dir := prepareDir(t)
	if err := os.WriteFile(filepath.Join(dir, "secret.ecryptmount"), good, 0o600); err != nil {
		t.Fatal(err)
	}
	tests := []struct{ args, want string }{
		{"secret", ""},
		{"-o ecryptfs_key_bytes=24,ecryptfs_enable_filename_crypto=y,ecryptfs_passthrough=n secret", ""},
		{"secret other", ""},
		{"-key oaep secret", "secret was set up with another key than oaep"},
		{"-o ecryptfs_key_bytes=32 secret", "was set up with ecryptfs_key_bytes=24, not 32"},
		{"-o ecryptfs_enable_filename_crypto=n secret", "was set up with ecryptfs_enable_filename_crypto=y"},
	}
	for _, test := range tests {
		s, err := prepareIn(t, dir, strings.Fields(test.args)...)
		if test.want == "" && err == nil {
			if set := s.settings; set.keyBytes != 24 || !set.names || set.passthrough == strings.Contains(test.args, "passthrough=n") {
				t.Errorf("%s: %+v", test.args, set)
			}
			continue
		}
		if test.want == "" || err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v, want %q", test.args, err, test.want)
		}
	}
	if err := os.WriteFile("secret.ecryptmount", good[:50], 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := prepareIn(t, dir, "secret"); err == nil || !strings.Contains(err.Error(), "not a settings file of ecryptmount, or a damaged one") {
		t.Errorf("half a record: %v", err)
	}
}

// The defaults of a new directory, and what the kernel is told.
func TestMountData(t *testing.T) {
	s, err := prepareIn(t, prepareDir(t), "-o", "ro,nosuid", "secret")
	if err != nil {
		t.Fatal(err)
	}
	s.nameToken = &ecryptfs.Token{Signature: "0123456789abcdef"}
	want := "ecryptfs_mount_auth_tok_only,ecryptfs_sig=" + string(s.token.Signature) +
		",ecryptfs_cipher=aes,ecryptfs_key_bytes=32,ecryptfs_fnek_sig=0123456789abcdef"
	if got := s.mountData(); got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestMountFlags(t *testing.T) {
	t.Parallel()
	const ro, nosuid, nodev, noexec = 1, 2, 4, 8
	tests := []struct {
		options string
		below   uintptr
		owner   uint32
		want    uintptr
	}{
		{"defaults", 0, 0, 0},
		{"ro,nosuid", 0, 0, ro | nosuid},
		{"defaults", nosuid | nodev | noexec | 0x1020, 0, nosuid | nodev | noexec}, // with ST_VALID and ST_RELATIME
		{"rw", ro, 0, ro},
		{"suid,dev,exec", nosuid | noexec, 1000, nosuid | noexec},
		{"defaults", 0, 1000, nosuid | nodev},
		{"dev", 0, 1000, nosuid},
		{"suid,noexec,dev,nosuid", 0, 1000, noexec | nosuid},
	}
	for _, test := range tests {
		s := &session{o: new(options)}
		if err := s.o.mount.Set(test.options); err != nil {
			t.Fatal(err)
		}
		if got := s.mountFlags(test.below, test.owner); got != test.want {
			t.Errorf("-o %s over %#x of user %d: %#x, want %#x", test.options, test.below, test.owner, got, test.want)
		}
	}
}

func TestModule(t *testing.T) {
	t.Parallel()
	m := &module{wait: defaultWait}
	for each, want := range map[time.Duration]bool{
		10 * time.Millisecond: false, 900 * time.Millisecond: false, 1100 * time.Millisecond: true, 20 * time.Second: true,
	} {
		if got := m.tooSlow(each); got != want {
			t.Errorf("a TPM that takes %v is too slow: %v", each, got)
		}
	}
	if got := m.advice(5 * time.Second); !strings.Contains(got, `"options ecryptfs ecryptfs_message_wait_timeout=100"`) {
		t.Errorf("advice: %s", got)
	}
	tests := map[string]string{
		"options ecryptfs ecryptfs_message_wait_timeout=30\n":                           "30",
		"# x\n options  ecryptfs ecryptfs_verbosity=0 ecryptfs_message_wait_timeout=5 ": "5",
		"# options ecryptfs ecryptfs_message_wait_timeout=30\n":                         "",
		"options ecryptfs2 ecryptfs_message_wait_timeout=30\n":                          "",
	}
	for text, want := range tests {
		got := ""
		if found := waitOption.FindStringSubmatch(text); found != nil {
			got = found[1]
		}
		if got != want {
			t.Errorf("%q waits %q seconds, want %q", text, got, want)
		}
	}
}
