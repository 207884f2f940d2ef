package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"maclef/ecryptmount/internal/ecryptfs"
)

// The keys that the lower files of the tests were made for, and other names. See
// internal/ecryptfs.
const (
	lowerKey   = "d1ddaf0ec88d9d0c"
	lowerName  = "9cf6972d0aafb022"
	someName   = "ECRYPTFS_FNEK_ENCRYPTED.FWaQxdQh0eyk6UYOeSYTeqOsYkNbuW0ZvzHD52kJNiH7g1aA8ddW3UnRi---"
	otherToken = "0123456789abcdef"
)

func lowerFile(t *testing.T) []byte {
	t.Helper()
	b, err := os.ReadFile("internal/ecryptfs/testdata/lower")
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestSurvey(t *testing.T) {
	t.Parallel()
	good := lowerFile(t)
	damaged := append(good[:27:27], 0xff)
	tests := []struct {
		name  string
		look  dirScan
		files map[string][]byte
		want  string // in the error, empty where there is none
	}{
		{name: "empty", look: dirScan{name: lowerName}},
		{name: "ours", look: dirScan{name: lowerName}, files: map[string][]byte{someName: good}},
		{name: "empty file", look: dirScan{name: lowerName}, files: map[string][]byte{someName: nil}},
		{name: "plain names", files: map[string][]byte{"lettre": good}},
		{name: "plain file", files: map[string][]byte{"lettre": []byte("bonjour")}, want: "lettre is not encrypted, and could not be opened"},
		{name: "passthrough", look: dirScan{passthrough: true}, files: map[string][]byte{"lettre": []byte("bonjour")}},
		{name: "plain name", look: dirScan{name: lowerName}, files: map[string][]byte{"lettre": good}, want: "lettre has a name that is not encrypted"},
		{name: "plain name below", look: dirScan{name: lowerName}, files: map[string][]byte{someName + "/lettre": good}, want: "lettre has a name that is not encrypted"},
		{name: "names of another passphrase", look: dirScan{name: otherToken}, files: map[string][]byte{someName: good}, want: "was encrypted with another passphrase (" + lowerName},
		{name: "lost record", look: dirScan{name: otherToken, lost: "/x.ecryptmount"}, files: map[string][]byte{someName: good}, want: "and /x.ecryptmount, which has the passphrase for it, is not there"},
		{name: "encrypted names as they are", files: map[string][]byte{someName: good}},
		{name: "another key", look: dirScan{key: otherToken}, files: map[string][]byte{"lettre": good}, want: "was encrypted for the key " + lowerKey + ", and this key is " + otherToken},
		{name: "damaged", files: map[string][]byte{"lettre": damaged}},
		{name: "damaged name", look: dirScan{name: lowerName}, files: map[string][]byte{ecryptfs.NamePrefix + "x": good}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			look := test.look
			look.lower = t.TempDir()
			if look.key == "" {
				look.key = lowerKey
			}
			for name, content := range test.files {
				path := filepath.Join(look.lower, name)
				if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(path, content, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			err := look.run()
			switch {
			case test.want == "" && err != nil:
				t.Error(err)
			case test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)):
				t.Errorf("%v, want %q", err, test.want)
			}
			if strings.HasPrefix(test.name, "damaged") != (look.damaged == 1) {
				t.Errorf("%d damaged files", look.damaged)
			}
			if test.name == "ours" && (len(look.sample) != 256 || look.encrypted != 1) {
				t.Errorf("sample of %d bytes, %d encrypted names", len(look.sample), look.encrypted)
			}
		})
	}
}

// A survey opens no pipes, for which it would wait for ever, and follows no links.
func TestSurveySpecial(t *testing.T) {
	t.Parallel()
	look := dirScan{lower: t.TempDir(), key: lowerKey}
	if err := unix.Mkfifo(filepath.Join(look.lower, "pipe"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/etc/passwd", filepath.Join(look.lower, "link")); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(look.lower, "lost+found"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := look.run(); err != nil {
		t.Error(err)
	}
	if b, err := readPrefix(filepath.Join(look.lower, "link")); err == nil {
		t.Errorf("a link was followed: %q", b)
	}
	look.name = lowerName
	os.Remove(filepath.Join(look.lower, "pipe"))
	os.Remove(filepath.Join(look.lower, "link"))
	if err := look.run(); err != nil {
		t.Errorf("lost+found: %v", err)
	}
}
