package tpmkey_test

import (
	"crypto/tls"
	mathrand "math/rand/v2"
	"testing"
	"time"

	"maclef/internal/tpmtest"
	"maclef/internal/transport"
	"maclef/tpmkey"

	"github.com/google/go-tpm/tpm2"
)

// startCounted is a TPM with recorded keys behind a proxy that counts.
func startCounted(t *testing.T, gen generation) *tpmtest.Proxy {
	t.Helper()
	return tpmtest.StartProxy(t, tpmtest.Start(t, gen.state))
}

// asked is the secret of the fixtures, to be asked for.
func asked() tpmkey.Secret {
	return tpmkey.AskSecret(func() (tpmkey.Secret, error) { return motdepasse(), nil })
}

// A loaded key costs one command for an operation, whatever its secret is and wherever
// that comes from.
func TestOneCommandForOneOperation(t *testing.T) {
	t.Parallel()
	inBoth(t, testOneCommandForOneOperation)
}

func testOneCommandForOneOperation(t *testing.T, gen generation) {
	type row struct {
		name, file string
		secret     tpmkey.Secret
	}
	rows := []row{
		{"without a secret", gen.plain, tpmkey.Secret{}},
		{"with a secret", gen.secret, motdepasse()},
		{"with an asked secret", gen.secret, asked()},
		{"with a kept secret", gen.secret, asked().Keep()},
	}
	if gen.is20() {
		rows = append(rows, row{"RSA without a secret", "pv-rsa", tpmkey.Secret{}}, row{"RSA with a secret", "pv-rsa-auth", motdepasse()},
			row{"imported", "e2-import-ec", tpmkey.Secret{}})
	}
	p := startCounted(t, gen)
	tpm := openName(t, p.Name)
	for _, row := range rows {
		k := loadWith(t, tpm, row.file, tutorialSRK(), row.secret)
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
		if !gen.is20() {
			if got := operations(t, p, func() {
				for range n {
					checkDecrypts(t, k, row.file+".bound", tpmtest.Fixture(t, "tpm12-tutorial/bonjour.txt"))
				}
			}); got != n {
				t.Errorf("%s: %d commands for %d decryptions", row.name, got, n)
			}
		}
		k.Close()
	}
}

// An importable key is imported once, as long as the TPM is open.
func TestImportedOnce(t *testing.T) {
	t.Parallel()
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

// Keys with different secrets take turns in one session.
func TestOneCommandEachForManySecrets(t *testing.T) {
	t.Parallel()
	tpmtest.Long(t, tpmtest.Slow12)
	p := startCounted(t, generations[0])
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
	t.Parallel()
	inBoth(t, testCommandsOfAHandshake)
}

func testCommandsOfAHandshake(t *testing.T, gen generation) {
	files, version := []string{"maclef", "auth"}, uint16(tls.VersionTLS12)
	if gen.is20() {
		files, version = []string{"pv-rsa", "pv-p256", "pv-rsa-auth", "e2-rsa"}, tls.VersionTLS13
	}
	p := startCounted(t, gen)
	tpm := openName(t, p.Name)
	for _, name := range files {
		k := loadWith(t, tpm, name, tutorialSRK(), asked().Keep())
		cert := selfSigned(t, k)
		server, err := k.TLSConfigPEM(cert)
		if err != nil {
			t.Fatal(err)
		}
		client := trusting(cert)
		client.ClientSessionCache = tls.NewLRUClientSessionCache(1)
		for i, want := range []int{1, 0, 0} {
			got := operations(t, p, func() {
				if state := handshake(t, server, client); state.DidResume != (i > 0) || state.Version != version {
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

// Open, LoadFile, one signature and Close take at most five commands, as in certgen with a key
// without a secret.
func TestCommandsOfAStart(t *testing.T) {
	t.Parallel()
	tpmtest.Long(t, tpmtest.Slow12)
	p := startCounted(t, generations[0])
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

// Many keys on the few places of one chip, used at random: no key is loaded from its file
// twice, and a switch costs at most three commands.
func TestManyKeys(t *testing.T) {
	tpmtest.Long(t, tpmtest.Stress)
	inBoth(t, testManyKeys)
}

func testManyKeys(t *testing.T, gen generation) {
	many, files := 200, []string{"maclef", "rsa1024", "auth", "wrapped-auth", "oaep"}
	loadContext, loads, session := uint32(ordLoadContext), []uint32{ordLoadKey2}, 0
	if gen.is20() {
		many, files = 1000, []string{"pv-p256", "e2-p256-auth", "e2-p256-81000001", "e2-import-ec", "e2-p384"}
		loadContext, loads, session = uint32(tpm2.TPMCCContextLoad), []uint32{uint32(tpm2.TPMCCLoad), uint32(tpm2.TPMCCCreatePrimary)}, 2
	}
	if testing.Short() {
		many /= 4
	}
	tpm, tap := openTappedIn(t, gen.state)
	var keys []*tpmkey.Key
	for i := range many {
		name := files[i%len(files)]
		keys = append(keys, loadWith(t, tpm, name, tutorialSRK(), motdepasseOf(t, name)))
	}
	if !gen.is20() { // the first use looks at the lockout, and saves the context
		for i, k := range keys {
			mustSign(t, k, i)
		}
	}
	tap.Reset()
	const n = 300
	for i := range n {
		mustSign(t, keys[mathrand.IntN(len(keys))], i)
	}
	all, switches := tap.Count(), tap.Count(loadContext)
	if reloads := tap.Count(loads...); reloads != 0 {
		t.Errorf("%d keys were loaded from their files again", reloads)
	}
	if switches < n/2 {
		t.Errorf("only %d of %d signatures needed a switch", switches, n)
	}
	if all-n > 3*switches+session {
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
		return tpmtest.ErrorReply(0x0a), nil // TPM_BAD_ORDINAL
	}
	return r.Device.Send(cmd)
}

// A chip that saves no contexts, or loads none, has the keys loaded from their files.
func TestChipsWithoutContexts(t *testing.T) {
	t.Parallel()
	tpmtest.Long(t, tpmtest.Slow12)
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
