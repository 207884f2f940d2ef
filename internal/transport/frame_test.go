package transport

import (
	"bytes"
	"testing"
)

// FuzzReadResponse: whatever a peer sends, at most one well-formed response is
// taken from it.
func FuzzReadResponse(f *testing.F) {
	for _, seed := range []string{"", "\x00\xC4", "\x00\xC4\x00\x00\x00\x0A\x00\x00\x00\x00", "\x80\x01\x00\x00\x00\x0B\x00\x00\x00\x00xyz",
		"\x00\xC5\xFF\xFF\xFF\xFF\x00\x00\x00\x00", "HTTP/1.1 400 Bad Request"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		rsp, err := readResponse(bytes.NewReader(data))
		if !bytes.HasPrefix(data, rsp) || len(rsp) > maxSize || cap(rsp) > 2*maxSize {
			t.Errorf("%x became %x", data, rsp)
		}
		if err == nil && checkResponse(rsp) != nil {
			t.Errorf("%x: %v", rsp, checkResponse(rsp))
		}
	})
}
