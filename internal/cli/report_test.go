package cli

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-tpm/tpm2"

	"maclef/internal/tpm20"
	"maclef/tpmkey"
)

func TestHintFor(t *testing.T) {
	tests := []struct {
		name string
		err  error
		args []string
		want string
	}{
		{"SRK, default secret", tpmkey.ErrWrongSRKSecret, nil, "well-known secret; try -srk-pass prompt"},
		{"SRK, secret given", tpmkey.ErrWrongSRKSecret, []string{"-srk-pass", "prompt"}, "another secret than -srk-pass says"},
		{"SRK, given with two dashes", tpmkey.ErrWrongSRKSecret, []string{"--srk-pass=prompt"}, "another secret than -srk-pass says"},
		{"SRK, flag behind --", tpmkey.ErrWrongSRKSecret, []string{"--", "-srk-pass"}, "try -srk-pass prompt"},
		{"key, prompted", tpmkey.ErrWrongKeySecret, nil, "the key has another secret; one set by tpm-tools -u"},
		{"key, given", tpmkey.ErrWrongKeySecret, []string{"-key-pass=prompt"}, "than -key-pass says; one set"},
		{"owner, default", tpmkey.ErrWrongOwnerSecret, nil, "-owner-pass wellknown"},
		{"owner, given", tpmkey.ErrWrongOwnerSecret, []string{"-owner-pass", "pass:"}, "than -owner-pass says"},
		{"locked out", tpmkey.ErrLockedOut, nil, "tpmctl status"},
		{"other TPM", tpmkey.ErrWrongTPM, nil, "tpmctl inspect"},
		{"secret needed", tpmkey.ErrSecretNeeded, nil, "-key-pass"},
		{"not owned", tpmkey.ErrNotOwned, nil, "tpmctl own"},
		{"disabled", tpmkey.ErrDisabled, nil, "tpmctl enable and tpmctl activate say"},
		{"busy", tpmkey.ErrBusy, []string{"sign"}, "-wait 5m waits longer"},
		{"lost", tpmkey.ErrGone, nil, ""},
		{"unknown", errors.New("odd"), nil, ""},
		{"wrong parent's secret", refused20(tpmkey.ErrWrongSRKSecret, tpm2.TPMRCBadAuth), nil, "try -srk-pass prompt"},
		{"wrong parent's secret, given", refused20(tpmkey.ErrWrongSRKSecret, tpm2.TPMRCBadAuth), []string{"-srk-pass", "pass:"}, "another secret than -srk-pass says"},
		{"wrong key secret of a TPM 2.0", refused20(tpmkey.ErrWrongKeySecret, tpm2.TPMRCAuthFail), nil, "tpmctl status before the next try"},
		{"wrong lockout secret", refused20(tpmkey.ErrWrongOwnerSecret, tpm2.TPMRCAuthFail), nil, "the lockout hierarchy has another secret"},
		{"key of another TPM 2.0", refused20(tpmkey.ErrWrongTPM, tpm2.TPMRCIntegrity), nil, "-parent names another"},
		{"no room", refused20(nil, tpm2.TPMRCObjectMemory), nil, "tpmctl flush"},
		{"failure mode", refused20(nil, tpm2.TPMRCFailure), nil, "off and on again"},
		{"no parent", tpmkey.ErrNoParent, nil, "-parent"},
		{"no such key", tpmkey.ErrNoKey, nil, "tpmctl status lists"},
		{"other generation", tpmkey.ErrWrongGeneration, nil, "tpmctl inspect"},
		{"policy", tpmkey.ErrPolicy, nil, "tpmctl inspect shows the policy"},
		{"own hint first", WithHint(tpmkey.ErrNotOwned, "mine"), nil, "mine"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got := hintFor(fmt.Errorf("load maclef: %w", test.err), test.args)
			if !strings.Contains(got, test.want) || test.want == "" && got != "" {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}

// A broken pipe is quiet only where it is standard output that broke: a TPM's
// socket can break, too.
// refused20 is what a TPM 2.0 has refused, which means kind.
func refused20(kind error, code tpm2.TPMRC) error {
	return errors.Join(kind, &tpm20.Error{Code: code})
}

func TestReportBrokenPipe(t *testing.T) {
	tests := []struct {
		name  string
		err   error
		quiet bool
	}{
		{"standard output", fmt.Errorf("write: %w", &productError{err: syscall.EPIPE}), true},
		{"TPM", fmt.Errorf("send: %w", syscall.EPIPE), false},
		{"full disk", &productError{err: syscall.ENOSPC}, false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var stderr bytes.Buffer
			if status := report("x", nil, test.err, &stderr); status != exitFailed || (stderr.Len() == 0) != test.quiet {
				t.Errorf("status %d, %q", status, stderr.String())
			}
		})
	}
}

func TestWithoutPath(t *testing.T) {
	for _, err := range []error{
		&fs.PathError{Op: "open", Path: "x", Err: syscall.ENOENT},
		&os.LinkError{Op: "link", Old: "a", New: "b", Err: syscall.ENOENT},
		&os.SyscallError{Syscall: "ioctl", Err: syscall.ENOENT},
		syscall.ENOENT,
	} {
		if got := withoutPath(err); got != syscall.ENOENT {
			t.Errorf("%T: %v", err, got)
		}
	}
}

func TestBytesText(t *testing.T) {
	for n, want := range map[int64]string{5: "5 bytes", 1000: "1000 bytes", 1 << 10: "1 KiB", 3 << 20: "3 MiB", 1<<20 + 1: "1048577 bytes"} {
		if got := bytesText(n); got != want {
			t.Errorf("%d: %s", n, got)
		}
	}
}

func TestWrapWords(t *testing.T) {
	tests := []struct {
		name, text string
		want       []string
	}{
		{"empty", "", []string{""}},
		{"fits", "one two", []string{"one two"}},
		{"exactly", "été été 12", []string{"été été 12"}},
		{"breaks", "one two three four", []string{"one two", "three four"}},
		{"long word", "a incomprehensibility b", []string{"a", "incomprehensibility", "b"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if got := wrapWords(test.text, 10); !slices.Equal(got, test.want) {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}
