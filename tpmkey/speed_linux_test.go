package tpmkey_test

import (
	"crypto/tls"
	"crypto/x509"
	mathrand "math/rand/v2"
	"testing"
	"time"

	"maclef/internal/tpmtest"
	"maclef/internal/transport"
	"maclef/tpmkey"
)

// startCounted is the tutorial's TPM behind a proxy that counts.
func startCounted(t *testing.T) *tpmtest.Proxy {
	t.Helper()
	return tpmtest.StartProxy(t, tpmtest.Start(t, tpmtest.Tutorial))
}

// asked is the secret of the fixtures, to be asked for.
func asked() tpmkey.Secret {
	return tpmkey.AskSecret(func() (tpmkey.Secret, error) { return motdepasse(), nil })
}

// A loaded key costs one command for an operation, whatever its secret is and
// wherever that comes from.
func TestOneCommandForOneOperation(t *testing.T) {
	p := startCounted(t)
	tpm := openName(t, p.Name)
	for _, row := range []struct {
		name, file string
		secret     tpmkey.Secret
	}{
		{"without a secret", "maclef", tpmkey.Secret{}},
		{"with a secret", "auth", motdepasse()},
		{"with an asked secret", "auth", asked()},
		{"with a kept secret", "auth", asked().Keep()},
	} {
		k, err := tpm.Load(t.Context(), parseFixture(t, row.file), &tpmkey.LoadOptions{ParentAuth: tutorialSRK(), Auth: row.secret})
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
		}); got != n {
			t.Errorf("%s: %d commands for %d signatures", row.name, got, n)
		}
		if got := operations(t, p, func() {
			for range n {
				checkDecrypts(t, k, row.file+".bound", tpmtest.Fixture(t, "tpm12-tutorial/bonjour.txt"))
			}
		}); got != n {
			t.Errorf("%s: %d commands for %d decryptions", row.name, got, n)
		}
	}
}

// Keys with different secrets take turns in one session.
func TestOneCommandEachForManySecrets(t *testing.T) {
	p := startCounted(t)
	tpm := openName(t, p.Name)
	var keys []*tpmkey.Key
	for _, name := range []string{"maclef", "auth", "wrapped-auth", "rsa1024"} {
		keys = append(keys, loadFixture(t, tpm, name))
	}
	use := func() {
		for i, k := range keys {
			if err := signs(k, i); err != nil {
				t.Error(i, err)
			}
		}
	}
	use()
	if got := operations(t, p, func() { use(); use() }); got != 2*len(keys) {
		t.Errorf("%d commands for %d signatures", got, 2*len(keys))
	}
}

// A full handshake costs one command, a resumed one none.
func TestCommandsOfAHandshake(t *testing.T) {
	p := startCounted(t)
	tpm := openName(t, p.Name)
	for _, name := range []string{"maclef", "auth"} {
		k := loadFixture(t, tpm, name)
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
				if state := handshake(t, server, client); state.DidResume != (i > 0) {
					t.Errorf("%s: handshake %d: resumed: %v", name, i, state.DidResume)
				}
			})
			if got != want {
				t.Errorf("%s: handshake %d cost %d commands, want %d", name, i, got, want)
			}
		}
	}
}

// What certgen does with a key without a secret, from Open to Close.
func TestCommandsOfAStart(t *testing.T) {
	p := startCounted(t)
	got := counted(t, p, func() {
		tpm, err := tpmkey.Open(t.Context(), p.Name)
		if err != nil {
			t.Fatal(err)
		}
		defer tpm.Close()
		k, err := tpm.LoadFile(t.Context(), tpmtest.FixturePath(t, "tpm12-tutorial/maclef"), &tpmkey.LoadOptions{ParentAuth: tutorialSRK()})
		if err != nil {
			t.Fatal(err)
		}
		selfSigned(t, k)
		if err := k.Close(); err != nil {
			t.Error(err)
		}
	})
	if got > 5 {
		t.Errorf("%d commands", got)
	}
}

// 200 keys on the places of one chip, used at random: at most three commands for a
// switch.
func TestTwoHundredKeys(t *testing.T) {
	tpm, tap := openTapped(t)
	files := []string{"maclef", "rsa1024", "auth", "wrapped-auth", "oaep"}
	var keys []*tpmkey.Key
	for i := range 200 {
		file := parseFixture(t, files[i%len(files)])
		k, err := tpm.Load(t.Context(), file, &tpmkey.LoadOptions{ParentAuth: tutorialSRK(), Auth: motdepasse()})
		if err != nil {
			t.Fatal(i, err)
		}
		keys = append(keys, k)
	}
	for i, k := range keys { // the first use looks at the lockout, and saves the context
		if err := signs(k, i); err != nil {
			t.Fatal(i, err)
		}
	}
	tap.Reset()
	const n = 300
	for i := range n {
		if err := signs(keys[mathrand.IntN(len(keys))], i); err != nil {
			t.Fatal(i, err)
		}
	}
	all, switches := tap.Count(), tap.Count(ordLoadContext, ordLoadKey2)
	if reloads := tap.Count(ordLoadKey2); reloads != 0 {
		t.Errorf("%d keys were loaded from their files again", reloads)
	}
	if switches < n/2 {
		t.Errorf("only %d of %d signatures needed a switch", switches, n)
	}
	if all-n > 3*switches {
		t.Errorf("%d commands for %d signatures and %d switches: over 3 for a switch", all, n, switches)
	}
	if err := tpm.Close(); err != nil {
		t.Error(err)
	}
}

// A refusing transport refuses commands as a chip does that has not implemented them.
type refusing struct {
	*transport.Device
	ordinal uint32
	refused int
}

func (r *refusing) Send(cmd []byte) ([]byte, error) {
	if uint32(cmd[9]) == r.ordinal {
		r.refused++
		return tpmtest.Refusal(0x0a), nil // TPM_BAD_ORDINAL
	}
	return r.Device.Send(cmd)
}

// A chip that saves no contexts, or loads none, has the keys loaded from their files.
func TestChipsWithoutContexts(t *testing.T) {
	for _, ordinal := range []uint32{ordSaveContext, ordLoadContext} {
		dev, err := transport.Open(tpmtest.Start(t, tpmtest.Tutorial).Socket, time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		r := &refusing{Device: dev, ordinal: ordinal}
		tap := tpmtest.NewTap(r)
		tpm, err := tpmkey.OpenTransport(t.Context(), tap)
		if err != nil {
			t.Fatal(err)
		}
		var keys []*tpmkey.Key
		for i := range 25 {
			keys = append(keys, loadFixture(t, tpm, []string{"rsa1024", "wrapped-auth"}[i%2]))
		}
		tap.Reset()
		for i := range 2 * len(keys) {
			if err := signs(keys[i%len(keys)], i); err != nil {
				t.Fatalf("%#x: %d: %v", ordinal, i, err)
			}
		}
		if r.refused == 0 || tap.Count(ordLoadKey2) == 0 {
			t.Errorf("%#x: refused %d times, %d times loaded from a file", ordinal, r.refused, tap.Count(ordLoadKey2))
		}
		if err := tpm.Close(); err != nil {
			t.Error(err)
		}
	}
}
