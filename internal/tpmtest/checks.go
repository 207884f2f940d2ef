package tpmtest

import (
	"errors"
	"os"
	"strings"
	"testing"
)

// WantError checks the kind of an error, and that its text contains all of words.
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

// Cannot skips a test that this user or machine cannot run. In CI it fails: a test that is
// skipped there never runs.
func Cannot(t testing.TB, format string, args ...any) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatalf("this must run in CI: "+format, args...)
	}
	t.Skipf(format, args...)
}
