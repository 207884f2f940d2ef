package main

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
)

func TestMountOptions(t *testing.T) {
	t.Parallel()
	var m mountOptions
	for _, text := range []string{"ecryptfs_cipher=aes,ecryptfs_key_bytes=16", "nosuid,ro,noexec,ecryptfs_passthrough", "rw,defaults,exec,ecryptfs_enable_filename_crypto=n"} {
		if err := m.Set(text); err != nil {
			t.Fatalf("%s: %v", text, err)
		}
	}
	if m.keyBytes != 16 || m.passthrough == nil || !*m.passthrough || m.names == nil || *m.names {
		t.Errorf("%+v", m)
	}
	if len(m.generic) != 1 || !m.generic["nosuid"] {
		t.Errorf("generic options %v", m.generic)
	}
	tests := map[string]string{
		"":                                       `unknown mount option ""`,
		"ecryptfs_sig=0123456789abcdef":          `unknown mount option "ecryptfs_sig=0123456789abcdef"`,
		"ro,key=openssl:keyfile=maclef":          `unknown mount option "key=openssl:keyfile=maclef"`,
		"ro=1":                                   "unknown",
		"ecryptfs_cipher=twofish":                "only ecryptfs_cipher=aes",
		"ecryptfs_cipher":                        "only ecryptfs_cipher=aes",
		"ecryptfs_key_bytes=33":                  "16, 24 or 32 bytes",
		"ecryptfs_key_bytes=":                    "16, 24 or 32 bytes",
		"ecryptfs_passthrough=maybe":             "y or n",
		"ecryptfs_enable_filename_crypto=":       "y or n",
		"ecryptfs_enable_filename_crypto=y,blah": "blah",
	}
	for text, want := range tests {
		if err := new(mountOptions).Set(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}

// goodRecord is one that a first mount makes.
func goodRecord() *settingsFile {
	return &settingsFile{
		Version: 1, Key: strings.Repeat("0123456789abcdef", 4), Cipher: cipher, KeyBytes: 32,
		FilenameCrypto: true, FilenamePassphrase: bytes.Repeat([]byte{1}, 256),
	}
}

func TestParseRecord(t *testing.T) {
	t.Parallel()
	good, err := json.Marshal(goodRecord())
	if err != nil {
		t.Fatal(err)
	}
	if r, err := parseSettingsFile(append(good, '\n')); err != nil || r.KeyBytes != 32 || len(r.FilenamePassphrase) != 256 {
		t.Errorf("%+v, %v", r, err)
	}
	tests := []struct {
		name   string
		change func(*settingsFile)
	}{
		{"newer", func(r *settingsFile) { r.Version = 2 }},
		{"no version", func(r *settingsFile) { r.Version = 0 }},
		{"no key", func(r *settingsFile) { r.Key = "" }},
		{"another cipher", func(r *settingsFile) { r.Cipher = "blowfish" }},
		{"keys of no cipher", func(r *settingsFile) { r.KeyBytes = 33 }},
		{"no passphrase", func(r *settingsFile) { r.FilenamePassphrase = nil }},
		{"a passphrase for nothing", func(r *settingsFile) { r.FilenameCrypto = false }},
		{"a passphrase of no key", func(r *settingsFile) { r.FilenamePassphrase = make([]byte, 513) }},
	}
	for _, test := range tests {
		r := goodRecord()
		test.change(r)
		b, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		if r, err := parseSettingsFile(b); err == nil {
			t.Errorf("%s: %+v", test.name, r)
		}
	}
	for _, bad := range []string{"", "{", "[]", "null", string(good[:len(good)/2]), string(good) + "{}"} {
		if r, err := parseSettingsFile([]byte(bad)); err == nil {
			t.Errorf("%q: %+v", bad, r)
		}
	}
}

func FuzzRecord(f *testing.F) {
	good, err := json.Marshal(goodRecord())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte(`{"version":1}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := parseSettingsFile(b)
		if err != nil {
			return
		}
		again, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := parseSettingsFile(again); err != nil {
			t.Errorf("%s became %s: %v", b, again, err)
		}
	})
}

func TestUserIDs(t *testing.T) {
	t.Parallel()
	tests := []struct {
		list  string
		owner int
		want  []int
	}{
		{"", 0, []int{0}}, {"3000000000", 0, []int{0, 3000000000}}, {"", 1000, []int{0, 1000}}, {"1001,root,1001", 1000, []int{0, 1001}}, {"0", 1000, []int{0}},
	}
	for _, test := range tests {
		var u userList
		if test.list != "" {
			if err := u.Set(test.list); err != nil {
				t.Fatal(err)
			}
		}
		got, err := u.ids(test.owner)
		if err != nil || len(got) != len(test.want) {
			t.Errorf("%q: %v, %v", test.list, got, err)
			continue
		}
		for i := range got {
			if got[i] != test.want[i] {
				t.Errorf("%q: %v, want %v", test.list, got, test.want)
			}
		}
	}
	if err := new(userList).Set("root,,nobody"); err == nil {
		t.Error("an empty name is taken")
	}
	for _, name := range []string{"no such user", "4294967295", "-1"} {
		if _, err := (userList{name}).ids(0); err == nil {
			t.Errorf("%s: a user who does not exist is taken", name)
		}
	}
}
