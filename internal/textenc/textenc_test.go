package textenc

import (
	"testing"
	"unicode/utf8"
)

func TestUTF8(t *testing.T) {
	for name, c := range map[string]struct{ in, want string }{
		"nothing":         {"", ""},
		"ASCII":           {"clé", "clé"},
		"UTF-8 with mark": {"\ufeffclé", "clé"},
		"little-endian":   {"\xff\xfec\x00l\x00\xe9\x00", "clé"},
		"big-endian":      {"\xfe\xff\x00c\x00l\x00\xe9", "clé"},
		"pair":            {"\xff\xfe\x3d\xd8\x11\xdd", "\U0001f511"},
		"half a pair":     {"\xff\xfe\x3d\xd8a\x00", "\ufffda"},
		"cut off":         {"\xff\xfea\x00\x3d", "a\ufffd"},
		"pair cut off":    {"\xff\xfe\x3d\xd8", "\ufffd"},
		"mark alone":      {"\xff\xfe", ""},
		"no mark":         {"a\x00b\x00", "a\x00b\x00"},
	} {
		if got, _ := UTF8([]byte(c.in)); string(got) != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}

func FuzzUTF8(f *testing.F) {
	f.Add([]byte("\xff\xfec\x00"))
	f.Add([]byte("\xfe\xff\xd8\x3d\xdd\x11"))
	f.Fuzz(func(t *testing.T, b []byte) {
		got, copied := UTF8(b)
		if copied && (!utf8.Valid(got) || cap(got) > 3*len(b)/2+utf8.UTFMax) {
			t.Errorf("%q becomes %q, with room for %d bytes", b, got, cap(got))
		}
	})
}
