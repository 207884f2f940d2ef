package main

import (
	"os"
	"slices"
	"strings"
	"testing"
)

func TestWantsFork(t *testing.T) {
	for _, row := range []struct {
		args string
		want bool
	}{
		{"-key maclef /secret", false},
		{"-fork /secret", true}, {"--fork /secret", true}, {"/secret -fork", true},
		{"-fork=1 /secret", true}, {"-fork=T /secret", true}, {"-fork=true /secret", true},
		{"-fork=false /secret", false}, {"-fork -fork=0 /secret", false}, {"-fork=maybe /secret", false},
		{"-- -fork", false},
	} {
		if got := wantsFork(strings.Fields(row.args)); got != row.want {
			t.Errorf("%s: %v, want %v", row.args, got, row.want)
		}
	}
	t.Setenv(readyVariable, "3")
	if wantsFork([]string{"-fork", "/secret"}) {
		t.Error("the background process wants another one")
	}
}

func TestHideSecrets(t *testing.T) {
	given := strings.Fields("-key pass:file -key-pass pass:mot=de -srk-pass=utf16:pass: -fork -key-pass hex:00ff --srk-pass=sha1:00 --srk-pass prompt pass:dir")
	args, env := hideSecrets(given)
	want := "-key pass:file -key-pass env:ECRYPTMOUNT_SECRET_0 -srk-pass=env:ECRYPTMOUNT_SECRET_1 -fork -key-pass env:ECRYPTMOUNT_SECRET_2 --srk-pass=env:ECRYPTMOUNT_SECRET_3 --srk-pass prompt pass:dir"
	if got := strings.Join(args, " "); got != want {
		t.Errorf("arguments: %s", got)
	}
	t.Setenv(readyVariable, "3")
	for _, v := range env {
		name, value, _ := strings.Cut(v, "=")
		t.Setenv(name, value)
	}
	if got := revealSecrets(args); !slices.Equal(got, given) {
		t.Errorf("revealed: %q", got)
	}
	if left := strings.Join(os.Environ(), "\n"); strings.Contains(left, secretVariable) {
		t.Error("secrets are still in the environment")
	}
}
