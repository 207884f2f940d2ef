package main

import (
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
	t.Parallel()
	args, env := hideSecrets(strings.Fields("-key pass:file -key-pass pass:mot=de -srk-pass=utf16:pass: -fork --srk-pass prompt pass:dir"))
	if got, want := strings.Join(args, " "), "-key pass:file -key-pass env:ECRYPTMOUNT_SECRET_0 -srk-pass=utf16:env:ECRYPTMOUNT_SECRET_1 -fork --srk-pass prompt pass:dir"; got != want {
		t.Errorf("arguments: %s", got)
	}
	if want := []string{"ECRYPTMOUNT_SECRET_0=mot=de", "ECRYPTMOUNT_SECRET_1="}; !slices.Equal(env, want) {
		t.Errorf("environment: %q", env)
	}
}
