package cli

import (
	"testing"
	"time"
)

func TestWait(t *testing.T) {
	t.Parallel()
	for args, want := range map[string]time.Duration{
		"": defaultWait, "5m": 5 * time.Minute, "1.5s": 1500 * time.Millisecond, "1h30m": 90 * time.Minute,
		"0": noWait, "0s": noWait, "1ns": noWait, "1000h": maxWait,
	} {
		fs := NewEnv("x", nil, nil, nil).Flags()
		tpm := fs.TPM()
		line := []string{"-wait", args}
		if args == "" {
			line = nil
		}
		if _, err := fs.Parse(line); err != nil || tpm.Wait != want {
			t.Errorf("-wait %s: %v, %v, want %v", args, tpm.Wait, err, want)
		}
	}
	for _, text := range []string{"", "30", "-1s", "soon", "1000h1ns", "9999999999h", "NaN", "+", "1s "} {
		var v waitValue
		if err := v.Set(text); err == nil {
			t.Errorf("-wait %q is %v", text, time.Duration(v))
		}
	}
}
