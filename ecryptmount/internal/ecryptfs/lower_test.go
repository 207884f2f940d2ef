package ecryptfs

import (
	"bytes"
	"errors"
	"os"
	"strings"
	"testing"
)

// lower is the beginning of a file that Linux 6.1 wrote for the token
// d1ddaf0ec88d9d0c.
func lower(t testing.TB) []byte {
	t.Helper()
	b, err := os.ReadFile("testdata/lower")
	if err != nil {
		t.Fatal(err)
	}
	return b
}

const lowerSignature = "d1ddaf0ec88d9d0c"

func TestParseHeader(t *testing.T) {
	h, err := ParseHeader(lower(t))
	if err != nil {
		t.Fatal(err)
	}
	if len(h.Keys) != 1 || h.Keys[0].Signature != lowerSignature || len(h.For(lowerSignature)) != 256 {
		t.Errorf("%+v", h)
	}
	if h.For("0000000000000000") != nil {
		t.Error("it has a key for another token")
	}
}

func TestParseHeaderPassphrase(t *testing.T) {
	b := append(lower(t)[:26:26], 0x8c, 29)
	b = append(b, make([]byte, 29)...)
	b = append(b, 0xed, 22, 0x62, 8)
	b = append(b, "_CONSOLE\x00\x00\x00\x00\x01\x23\x45\x67\x89\xab\xcd\xef"...)
	h, err := ParseHeader(append(b, 0))
	if err != nil {
		t.Fatal(err)
	}
	if len(h.Keys) != 1 || h.Keys[0].Signature != testSignature || !h.Keys[0].Passphrase || h.For(testSignature) != nil {
		t.Errorf("%+v", h)
	}
}

func TestParseHeaderRefused(t *testing.T) {
	good := lower(t)
	change := func(i int, b byte) []byte {
		changed := bytes.Clone(good)
		changed[i] = b
		return changed
	}
	plain := map[string][]byte{"empty": nil, "text": []byte(strings.Repeat("bonjour ", 100)), "another marker": change(15, good[15]^1)}
	for name, b := range plain {
		if _, err := ParseHeader(b); !errors.Is(err, ErrNotEncrypted) {
			t.Errorf("%s: %v", name, err)
		}
	}
	damaged := map[string][]byte{
		"newer version": change(16, 4), "no key": change(26, 0), "cut": good[:100], "other key version": change(29, 4),
		"no length": good[:27], "length without an end": change(27, 255), "tag 3 alone": append(good[:26:26], 0x8c, 1, 0, 0),
		"zero key": append(good[:26:26], 1, 10, 3, 0, 0, 0, 0, 0, 0, 0, 0, 1),
	}
	for name, b := range damaged {
		if h, err := ParseHeader(b); err == nil || errors.Is(err, ErrNotEncrypted) {
			t.Errorf("%s: %+v, %v", name, h, err)
		}
	}
}

// Names that Linux 6.1 wrote.
const (
	lowerName     = "ECRYPTFS_FNEK_ENCRYPTED.FWaQxdQh0eyk6UYOeSYTeqOsYkNbuW0ZvzHD52kJNiH7g1aA8ddW3UnRi---"
	nameSignature = "9cf6972d0aafb022"
)

func TestParseName(t *testing.T) {
	if got, err := ParseName(lowerName); got != nameSignature || err != nil {
		t.Errorf("%q, %v", got, err)
	}
	if _, err := ParseName("lettre.txt"); !errors.Is(err, ErrPlainName) {
		t.Errorf("a plain name: %v", err)
	}
	for _, bad := range []string{NamePrefix, lowerName[:30], NamePrefix + "!!!!", NamePrefix + "----------------"} {
		if got, err := ParseName(bad); err == nil || errors.Is(err, ErrPlainName) {
			t.Errorf("%s: %q, %v", bad, got, err)
		}
	}
}

const table = `25 1 254:0 / / rw,relatime - ext4 /dev/vda rw
37 25 0:24 / /se\040cret rw,relatime shared:5 master:1 - ecryptfs /se\040cret rw,ecryptfs_fnek_sig=9cf6972d0aafb022,ecryptfs_sig=d1ddaf0ec88d9d0c,ecryptfs_passthrough
38 25 0:25 / /se\040cret rw - tmpfs tmp rw
`

func TestParseMounts(t *testing.T) {
	all, err := ParseMounts(table)
	if err != nil || len(all) != 3 {
		t.Fatalf("%+v, %v", all, err)
	}
	m := all[1]
	if m.Point != "/se cret" || m.Source != "/se cret" || m.FSType != FSType || m.Device != "0:24" {
		t.Errorf("%+v", m)
	}
	if m.Option("ecryptfs_sig") != "d1ddaf0ec88d9d0c" || m.Option("ecryptfs_passthrough") != "" || m.Option("sig") != "" {
		t.Errorf("options of %+v", m)
	}
	if got := MountAt(all, "/se cret"); got != &all[2] {
		t.Errorf("last mounted is %+v", got)
	}
	if got := MountAt(all, "/other"); got != nil {
		t.Errorf("%+v", got)
	}
	for _, bad := range []string{"\n", "25 1 254:0 / /", "25 1 254:0 / / rw - ext4"} {
		if all, err := ParseMounts(bad); err == nil {
			t.Errorf("%q: %+v", bad, all)
		}
	}
	for in, want := range map[string]string{`\040`: " ", `a\134b`: `a\b`, `\04`: `\04`, `\999`: `\999`, `\400`: `\400`} {
		if got := unescape(in); got != want {
			t.Errorf("%q became %q, want %q", in, got, want)
		}
	}
}
