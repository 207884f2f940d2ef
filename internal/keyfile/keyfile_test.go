package keyfile

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"maclef/blob"
	"maclef/internal/tpmtest"
)

func TestRead(t *testing.T) {
	dir := t.TempDir()
	for name, fixture := range map[string]string{
		"a.pub": "tools-rsa.pub", "a.priv": "tools-rsa.priv", "b.pub": "tools-rsa.pub", "c.priv": "tools-rsa.priv",
		"e.pub": "tools-rsa.pub", "e.prv": "tools-rsa.priv", "f.prv": "tools-rsa.priv", "g.pub": "tools-rsa.pub", "g.priv": "e2-rsa.pem", "g.prv": "tools-rsa.priv",
		"public": "tools-rsa.pub", "d.pub": "tools-rsa.priv", "key": "e2-rsa.pem",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), tpmtest.Fixture(t, "tpm2/"+fixture), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "large"), make([]byte, Limit+1), 0o600); err != nil {
		t.Fatal(err)
	}
	var pair *PairError
	var other *blob.NotKeyError
	for _, c := range []struct {
		name string
		want blob.Container
		as   any   // of the error, nil for a key
		is   error // of it, too
	}{
		{"key", blob.TSS2PEM, nil, nil},
		{"a.pub", blob.TSS2Pair, nil, nil},
		{"a.priv", blob.TSS2Pair, nil, nil},
		{"b.pub", 0, &pair, fs.ErrNotExist},
		{"c.priv", 0, &pair, fs.ErrNotExist},
		{"e.pub", blob.TSS2Pair, nil, nil},
		{"e.prv", blob.TSS2Pair, nil, nil},
		{"f.prv", 0, &pair, fs.ErrNotExist},
		{"g.pub", 0, new(error), blob.ErrTruncated}, // .priv comes before .prv
		{"public", 0, &other, nil},                  // whose other half has no name
		{"d.pub", 0, &other, nil},
		{"nothing", 0, new(*fs.PathError), fs.ErrNotExist},
	} {
		path := filepath.Join(dir, c.name)
		k, err := Read(path, c.name, ReadFile)
		switch {
		case c.as == nil && (err != nil || k.Container() != c.want):
			t.Errorf("%s: %v, error %v", c.name, k, err)
		case c.as != nil && (!errors.As(err, c.as) || c.is != nil && !errors.Is(err, c.is)):
			t.Errorf("%s: error %v", c.name, err)
		}
	}
	if _, err := Read(filepath.Join(dir, "large"), "large", ReadFile); err == nil {
		t.Error("a large file is read")
	}
}
