package tpmkey_test

import (
	"crypto/tls"
	"testing"

	"maclef/blob"
	"maclef/internal/tpmtest"
	"maclef/tpmkey"
)

// A server that wants a client certificate gets one of a key in a TPM.
func TestTLSClient(t *testing.T) {
	t.Parallel()
	for name, in := range map[string]struct {
		state   tpmtest.State
		file    string
		version uint16
	}{
		"1.2":        {tpmtest.Tutorial, "tpm12-tutorial/maclef", tls.VersionTLS12},
		"2.0, RSA":   {tpmtest.Keys20, "tpm2/e2-rsa.pem", tls.VersionTLS13},
		"2.0, P-256": {tpmtest.Keys20, "tpm2/e2-p256.pem", tls.VersionTLS13},
	} {
		t.Run(name, func(t *testing.T) {
			tpm, err := tpmkey.Open(t.Context(), tpmtest.Start(t, in.state).Socket)
			if err != nil {
				t.Fatal(err)
			}
			defer tpm.Close()
			file, err := blob.Parse(tpmtest.Fixture(t, in.file))
			if err != nil {
				t.Fatal(err)
			}
			k, err := tpm.Load(t.Context(), file, &tpmkey.LoadOptions{ParentAuth: tpmkey.Password(nil)})
			if err != nil {
				t.Fatal(err)
			}
			chain := selfSigned(t, k)
			client, err := k.TLSClientConfig(writeFile(t, chain))
			if err != nil {
				t.Fatal(err)
			}
			server, err := k.TLSConfigPEM(chain)
			if err != nil {
				t.Fatal(err)
			}
			client.RootCAs, client.ServerName = trusting(chain).RootCAs, "localhost"
			server.ClientAuth = tls.RequireAnyClientCert
			if state := handshake(t, server, client); state.Version != in.version {
				t.Errorf("version %#x", state.Version)
			}
		})
	}
}
