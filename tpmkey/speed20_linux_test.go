package tpmkey_test

import (
	"crypto/tls"
	"crypto/x509"
	"testing"

	"maclef/internal/tpmtest"
	"maclef/tpmkey"
)

func startCounted20(t *testing.T) *tpmtest.Proxy {
	t.Helper()
	return tpmtest.StartProxy(t, tpmtest.Start(t, tpmtest.Keys20))
}

// A loaded key costs one command for an operation, whatever its secret is and wherever
// that comes from; a policy costs its commands besides.
func TestOneCommandForOneOperation20(t *testing.T) {
	p := startCounted20(t)
	tpm := openName(t, p.Name)
	for _, row := range []struct {
		name, file string
		secret     tpmkey.Secret
		commands   int
	}{
		{"without a secret", "pv-rsa", tpmkey.Secret{}, 1},
		{"EC without a secret", "pv-p256", tpmkey.Secret{}, 1},
		{"with a secret", "pv-rsa-auth", motdepasse(), 1},
		{"EC with a secret", "e2-p256-auth", motdepasse(), 1},
		{"with an asked secret", "e2-p256-auth", asked(), 1},
		{"with a kept secret", "e2-p256-auth", asked().Keep(), 1},
		{"imported", "e2-import-ec", tpmkey.Secret{}, 1},
	} {
		k, err := tpm.Load(t.Context(), fixture20(t, row.file), &tpmkey.LoadOptions{Auth: row.secret})
		if err != nil {
			t.Fatal(err)
		}
		if err := signs(k); err != nil { // looks at the lockout, and opens the session
			t.Fatal(err)
		}
		const n = 10
		if got := operations(t, p, func() {
			for i := range n {
				if err := signs(k, i); err != nil {
					t.Error(err)
				}
			}
		}); got != n*row.commands {
			t.Errorf("%s: %d commands for %d signatures", row.name, got, n)
		}
		k.Close()
	}
}

// An importable key is imported once, as long as the TPM is open.
func TestImportedOnce20(t *testing.T) {
	sw := tpmtest.Start(t, tpmtest.Keys20)
	p := tpmtest.StartProxy(t, sw)
	tpm := openName(t, p.Name)
	imports := 0
	for round := range 3 {
		p.Arm(countOnly, tpmtest.Fault{})
		k, err := tpm.Load(t.Context(), fixture20(t, "e2-import-rsa"), nil)
		if err != nil {
			t.Fatal(err)
		}
		mustSign(t, k, round)
		if round == 1 {
			sw.Restart()
			mustSign(t, k, round)
		}
		k.Close()
		for _, e := range p.Exchanges() {
			if e.Ordinal == 0x156 && e.Response[8] == 0 { // TPM2_Import, and no TPM_RC_RETRY
				imports++
			}
		}
	}
	if imports != 1 {
		t.Errorf("imported %d times", imports)
	}
}

// A full handshake of TLS 1.3 costs one command, a resumed one none.
func TestCommandsOfAHandshake20(t *testing.T) {
	p := startCounted20(t)
	tpm := openName(t, p.Name)
	for _, name := range []string{"pv-rsa", "pv-p256", "pv-rsa-auth", "e2-rsa"} {
		k, err := tpm.Load(t.Context(), fixture20(t, name), &tpmkey.LoadOptions{Auth: asked().Keep()})
		if err != nil {
			t.Fatal(err)
		}
		cert := selfSigned(t, k)
		server, err := k.TLSConfigPEM(cert)
		if err != nil {
			t.Fatal(err)
		}
		roots := x509.NewCertPool()
		roots.AppendCertsFromPEM(cert)
		client := &tls.Config{RootCAs: roots, ServerName: "localhost", ClientSessionCache: tls.NewLRUClientSessionCache(1)}
		for i, want := range []int{1, 0, 0} {
			got := operations(t, p, func() {
				state := handshake(t, server, client)
				if state.DidResume != (i > 0) || state.Version != tls.VersionTLS13 {
					t.Errorf("%s: handshake %d: %#x, resumed: %v", name, i, state.Version, state.DidResume)
				}
			})
			if got != want {
				t.Errorf("%s: handshake %d cost %d commands, want %d", name, i, got, want)
			}
		}
		k.Close()
	}
}
