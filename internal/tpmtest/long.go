package tpmtest

import "testing"

// Long leaves a test out of those with -short, for a reason such as [Slow12].
func Long(t testing.TB, reason string) {
	t.Helper()
	if testing.Short() {
		t.Skip("left out by -short: " + reason)
	}
}

// Reasons for [Long].
const (
	Slow12 = "a TPM 1.2 takes long to start: it makes an RSA key each time"
	Slow20 = "a TPM takes long to make an RSA key"
	Waits  = "it waits for deadlines"
	Stress = "it keeps the machine busy"
)
