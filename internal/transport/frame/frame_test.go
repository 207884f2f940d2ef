package frame

import (
	"bytes"
	"testing"
)

// An error reply has no sessions: a reply with the tag of a success is none.
func TestErrorTag(t *testing.T) {
	for tag, want := range map[string]bool{"\x00\xC4": true, "\x80\x01": true, "\x00\xC5": false, "\x00\xC6": false, "\x80\x02": false} {
		for _, code := range []string{"\x00\x00\x00\x01", "\x00\x00\x00\x1D", "\x00\x00\x09\x8E", "\x80\x00\x00\x00"} {
			answer := []byte(tag + "\x00\x00\x00\x0A" + code)
			_, err := ReadResponse(bytes.NewReader(answer))
			if (err == nil) != want || (CheckResponse(answer) == nil) != want {
				t.Errorf("%x: %v, %v", answer, err, CheckResponse(answer))
			}
		}
		if err := CheckResponse([]byte(tag + "\x00\x00\x00\x0A\x00\x00\x00\x00")); err != nil {
			t.Errorf("a success with %x: %v", tag, err)
		}
	}
}

// FuzzReadResponse: whatever a peer sends, at most one well-formed response is
// taken from it.
func FuzzReadResponse(f *testing.F) {
	for _, seed := range []string{"", "\x00\xC4", "\x00\xC4\x00\x00\x00\x0A\x00\x00\x00\x00", "\x80\x01\x00\x00\x00\x0B\x00\x00\x00\x00xyz",
		"\x00\xC5\xFF\xFF\xFF\xFF\x00\x00\x00\x00", "HTTP/1.1 400 Bad Request"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		rsp, err := ReadResponse(bytes.NewReader(data))
		if !bytes.HasPrefix(data, rsp) || len(rsp) > MaxSize || cap(rsp) > 2*MaxSize {
			t.Errorf("%x became %x", data, rsp)
		}
		if err == nil && CheckResponse(rsp) != nil {
			t.Errorf("%x: %v", rsp, CheckResponse(rsp))
		}
	})
}
