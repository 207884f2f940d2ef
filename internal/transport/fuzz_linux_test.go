package transport

import (
	"errors"
	"io"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"unicode"

	"maclef/internal/transport/frame"
)

// FuzzPeer: whatever listens at a socket and says anything is a TPM or an error of
// a known kind that names the socket. swtpm's control channel is among the seeds.
func FuzzPeer(f *testing.F) {
	for _, seed := range []string{"", good, good[:7], "\x00\x00\x00\x0A", "\x00\x00\x00\x00", "HTTP/1.1 400 Bad Request\r\n\r\n", "SSH-2.0-OpenSSH\r\n",
		"\x00\xC4\x00\x00\x00\x0C\x00\x00\x00\x00\x00", "\x80\x01\x00\x00\x00\x0A\x00\x00\x00\x1E", good + good, "\x00\xC4\x00\x00\x00\x0A\x00\x00\x00\x26"} {
		f.Add([]byte(seed))
	}
	path := filepath.Join(f.TempDir(), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { l.Close() })
	answers := make(chan []byte, 1)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			if _, err := io.ReadFull(c, make([]byte, len(probeCommand))); err == nil {
				c.Write(<-answers)
			}
			c.Close()
		}
	}()
	f.Fuzz(func(t *testing.T, data []byte) {
		select {
		case <-answers: // that nobody took
		default:
		}
		answers <- data
		d, err := tryOpen(impatient(), "unix:"+path)
		if err == nil {
			d.Close()
			if rsp, err := frame.ReadResponse(strings.NewReader(string(data))); err != nil || !strings.HasPrefix(string(data), string(rsp)) {
				t.Errorf("%q is a TPM: %v", data, err)
			}
			return
		}
		if k := kind(err); k != "no-tpm" && k != "gone" || !strings.Contains(err.Error(), path) {
			t.Errorf("%q: %s: %v", data, k, err)
		}
		for _, r := range err.Error() {
			if !unicode.IsPrint(r) {
				t.Errorf("%q: %q has %U", data, err, r)
			}
		}
	})
}

// FuzzName: what has no form of a name is refused as such, and the rest is not.
func FuzzName(f *testing.F) {
	for _, seed := range []string{"/dev/tpm0", "tpm0", "unix:", "unix:/x", "unix:@x", "tcp:", "tcp:localhost", "tcp:::1", "emulator", "emulator:", "emulator:/x",
		"emulator2", "emulator2:", "emulator2:/x", "emulator20",
		"UNIX:/x", "unix", ":", "unix:\x00", "C:\\tpm", "\xff", "device:1"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, name string) {
		form, rest, colon := strings.Cut(name, ":")
		known := colon && (form == "unix" || form == "tcp") || (form == "emulator" || form == "emulator2") && (!colon || rest != "") || strings.ContainsAny(form, `/\`)
		if known || name == "" {
			return // it would look for, or start, whatever that names
		}
		_, err := tryOpen(impatient(), name)
		if !errors.Is(err, ErrUnknownName) || !strings.Contains(err.Error(), "emulator[:DIR]") {
			t.Errorf("%q: %v", name, err)
		}
	})
}
