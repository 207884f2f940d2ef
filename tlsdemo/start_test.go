package main

import (
	"crypto/x509"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"maclef/internal/cli"
	"maclef/internal/tpmtest"
	"maclef/tpmkey"
)

// hint is the advice that an error brings along.
func hint(err error) string {
	var h interface{ Hint() string }
	if errors.As(err, &h) {
		return h.Hint()
	}
	return ""
}

func mention(t *testing.T, text string, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if !strings.Contains(text, part) {
			t.Errorf("no %q in %q", part, text)
		}
	}
}

func TestCertificateOfAnotherKey(t *testing.T) {
	t.Parallel()
	r := newRig(t, "maclef", nil)
	other := tpmtest.FixturePath(t, "tpm12-tutorial/oaep.crt")
	free := r.freeKeys()
	said, err := r.fails(append(r.args("-accept", "0"), "-cert", other)...)
	if !errors.Is(err, tpmkey.ErrWrongCertificate) {
		t.Error(err)
	}
	mention(t, err.Error(), other, "not one of this key")
	mention(t, hint(err), "certgen -key "+r.key)
	if strings.Contains(said, "serving") {
		t.Error(said)
	}
	if now := r.freeKeys(); now != free {
		t.Errorf("room for %d keys, before it %d", now, free)
	}
}

func TestBadFiles(t *testing.T) {
	r := newRig(t, "maclef", nil)
	notCert := filepath.Join(t.TempDir(), "notcert")
	if err := os.WriteFile(notCert, []byte("bonjour\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, row := range map[string]struct {
		args []string
		want []string
	}{
		"no key":         {[]string{"-key", "/nonexistent"}, []string{"read /nonexistent"}},
		"no certificate": {[]string{"-cert", "/nonexistent"}, []string{"read /nonexistent"}},
		"not one":        {[]string{"-cert", notCert}, []string{"certificate", notCert}},
		"a key for both": {[]string{"-cert", r.key}, []string{"certificate", "a key file of a TPM, without a certificate"}},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := r.fails(append(r.args(), row.args...)...)
			mention(t, err.Error(), row.want...)
		})
	}
}

func TestSHA1KeyIsRefused(t *testing.T) {
	r := gen12.rig(t, "maclef", nil)
	r.key = tpmtest.FixturePath(t, "tpm12-tutorial/sha1")
	tpm := r.open()
	key, err := tpm.LoadFile(t.Context(), r.key, &tpmkey.LoadOptions{ParentAuth: tpmkey.Password(nil)})
	if err != nil {
		t.Fatal(err)
	}
	writeCertificate(t, r.cert, key, x509.SHA1WithRSA)
	tpm.Close()
	_, err = r.fails(r.args("-accept", "0")...)
	if !errors.Is(err, tpmkey.ErrNotSupported) {
		t.Error(err)
	}
	mention(t, err.Error(), "SHA-1 only", "make another key")
}

func TestPortInUse(t *testing.T) {
	r := newRig(t, "maclef", nil)
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	free := r.freeKeys()
	_, err = r.fails(r.args("-accept", taken.Addr().String())...)
	mention(t, err.Error(), "listen on "+taken.Addr().String(), "the port is in use")
	mention(t, hint(err), "-accept 0")
	if now := r.freeKeys(); now != free {
		t.Errorf("room for %d keys, before it %d", now, free)
	}
}

func TestWrongKeySecretCostsOneTry(t *testing.T) {
	t.Parallel()
	both(t, "auth counted", []byte("motdepasse"), testWrongKeySecretCostsOneTry)
}

func testWrongKeySecretCostsOneTry(t *testing.T, r *rig) {
	t.Parallel()
	before := r.status().Lockout.Tries
	_, err := r.fails(r.args("-accept", "0", "-key-pass", "pass:faux")...)
	if !errors.Is(err, tpmkey.ErrWrongKeySecret) {
		t.Error(err)
	}
	mention(t, err.Error(), r.key, "wrong key secret", r.wrong)
	if spent := r.status().Lockout.Tries - before; spent != 1 {
		t.Errorf("%d tries spent", spent)
	}
}

func TestKeyWithSecret(t *testing.T) {
	both(t, "auth", []byte("motdepasse"), testKeyWithSecret)
}

func testKeyWithSecret(t *testing.T, r *rig) {
	p := r.start("-key-pass", "pass:motdepasse")
	p.get()
	if strings.Contains(p.log.String(), "motdepasse") {
		t.Error(p.log)
	}
}

// The secret of the key is asked for at start.
func TestSecretIsAskedForAtStart(t *testing.T) {
	r := newRig(t, "auth", []byte("motdepasse"))
	said, err := r.fails(r.args("-accept", "0", "-key-pass", "env:UNE_ABSENTE")...)
	mention(t, err.Error(), "UNE_ABSENTE is not set")
	if strings.Contains(said, "serving") {
		t.Error(said)
	}
}

func TestFilesFromStandardInput(t *testing.T) {
	tpmtest.Long(t, tpmtest.Waits)
	t.Parallel()
	r := newRig(t, "maclef", nil)
	for flag, path := range map[string]string{"-key": r.key, "-cert": r.cert} {
		t.Run(flag, func(t *testing.T) {
			file, err := os.Open(path)
			if err != nil {
				t.Fatal(err)
			}
			defer file.Close()
			p := r.startFrom(file, flag, "-")
			p.get()
			p.cmd.Process.Signal(os.Interrupt)
			p.end()
		})
	}
}

func TestUsage(t *testing.T) {
	r := &rig{t: t}
	for name, row := range map[string]struct {
		args []string
		want string
	}{
		"port too large": {[]string{"-accept", "70000"}, "from 0 to 65535"},
		"no port":        {[]string{"-accept", "localhost"}, "PORT or HOST:PORT"},
		"bare IPv6":      {[]string{"-accept", "::1"}, "in brackets"},
		"both from -":    {[]string{"-key", "-", "-cert", "-"}, "both read standard input"},
		"an operand":     {[]string{"4433"}, "unexpected argument"},
		"optional alone": {[]string{"-client-optional"}, "goes with -client-ca"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := r.fails(row.args...)
			var usage *cli.UsageError
			if !errors.As(err, &usage) {
				t.Errorf("%T %v", err, err)
			}
			mention(t, err.Error(), row.want)
		})
	}
	_, err := r.fails("-h")
	var help *cli.Help
	if !errors.As(err, &help) {
		t.Fatal(err)
	}
	mention(t, strings.Join(strings.Fields(help.Text), " "), "$ tlsdemo -accept 4433", "(default maclef)", "(default moncert)", "(default 4433)")
}

func TestAddress(t *testing.T) {
	for text, want := range map[string]struct{ listen, url string }{
		"4433":           {":4433", "https://localhost:4433"},
		":4433":          {":4433", "https://localhost:4433"},
		"*:4433":         {":4433", "https://localhost:4433"},
		"0.0.0.0:4433":   {"0.0.0.0:4433", "https://localhost:4433"},
		"[::]:4433":      {"[::]:4433", "https://localhost:4433"},
		"[::1]:4433":     {"[::1]:4433", "https://[::1]:4433"},
		"127.0.0.1:4433": {"127.0.0.1:4433", "https://127.0.0.1:4433"},
		"chez.moi:4433":  {"chez.moi:4433", "https://chez.moi:4433"},
	} {
		a := new(address)
		if err := a.Set(text); err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if got := net.JoinHostPort(a.host, a.port); got != want.listen {
			t.Errorf("%s: listens on %s", text, got)
		}
		if got := a.url(nil); got != want.url {
			t.Errorf("%s: %s", text, got)
		}
	}
}
