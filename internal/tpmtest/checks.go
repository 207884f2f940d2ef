package tpmtest

import (
	"errors"
	"os"
	"strings"
	"testing"
)

// WantError checks an error's kind, and that its text says all of words.
func WantError(t testing.TB, err, kind error, words ...string) {
	t.Helper()
	if !errors.Is(err, kind) {
		t.Fatalf("error is %v, not %v", err, kind)
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("error %q does not say %q", err, w)
		}
	}
}

// Cannot skips what this user or machine does not allow. In CI it fails: a test
// that does not run there runs nowhere.
func Cannot(t testing.TB, format string, args ...any) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatalf("this must run in CI: "+format, args...)
	}
	t.Skipf(format, args...)
}
