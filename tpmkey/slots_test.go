package tpmkey_test

import (
	"crypto"
	"crypto/rsa"
	"crypto/sha1"
	"errors"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/google/go-tpm/tpm2"

	"maclef/internal/tpm12"
	"maclef/internal/tpmtest"
	"maclef/internal/transport"
	"maclef/tpmkey"
)

// raw speaks to a TPM behind the back of everybody else, as a program does that
// tells nobody what it loads.
func raw(t *testing.T, sw *tpmtest.SWTPM) *tpm12.Conn {
	t.Helper()
	dev, err := transport.Open(sw.Socket, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { dev.Close() })
	return tpm12.New(dev)
}

// fill12 loads a key as often as there is room, and returns how often that was.
func fill12(t *testing.T, conn *tpm12.Conn) int {
	t.Helper()
	srk := tpm12.Secret(sha1.Sum(nil))
	for n := 0; ; n++ {
		_, err := conn.LoadKey2(tpm12.SRK, fixture12(t, "maclef").Bytes(), &srk)
		if errors.Is(err, tpm12.NoSpace) {
			return n
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// fill20 loads keys into a TPM until it is full, and returns how many.
func fill20(t *testing.T, p *tpmtest.Proxy) (places int) {
	t.Helper()
	area := kind20{sign: true, curve: tpm2.TPMECCNistP256}.area()
	for ; ; places++ {
		_, err := tpm2.CreatePrimary{PrimaryHandle: tpm2.TPMRHOwner, InPublic: tpm2.New2B(*area)}.Execute(p)
		if errors.Is(err, tpm2.TPMRCObjectMemory) {
			return places
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// Twice as many keys as a chip has places, used at random.
func TestMoreKeysThanSlots(t *testing.T) {
	t.Parallel()
	tpmtest.Long(t, tpmtest.Slow12)
	tpm, tap := openTapped(t)
	files := []string{"maclef", "auth", "wrapped", "oaep"}
	var keys []*tpmkey.Key
	for i := range 40 {
		keys = append(keys, loadFixture(t, tpm, files[i%len(files)]))
	}
	digest := digestOf("sha256", []byte("bonjour"))
	sign := func(i int) int {
		tap.Reset()
		sig, err := keys[i].Sign(nil, digest, crypto.SHA256)
		if err != nil {
			t.Fatal(i, err)
		}
		if err := rsa.VerifyPKCS1v15(keys[i].Public().(*rsa.PublicKey), crypto.SHA256, digest, sig); err != nil {
			t.Error(err)
		}
		return len(tap.Exchanges())
	}
	for i := range keys { // their first time outside costs a SaveContext, and their secret a look at the lockout
		if n := sign(i); n > 5 {
			t.Errorf("the first use cost %d commands", n)
		}
	}
	most := 0
	for range 200 {
		most = max(most, sign(rand.IntN(len(keys))))
	}
	if most > 4 { // three for the switch
		t.Errorf("a use cost up to %d commands", most)
	}
}

// Keys that others left in a TPM are listed. They are freed when their places are needed, or
// by FlushOrphans.
func TestOutOfSlots(t *testing.T) {
	t.Parallel()
	inBoth(t, testOutOfSlots)
}

func testOutOfSlots(t *testing.T, gen generation) {
	p := tpmtest.StartProxy(t, tpmtest.Start(t, gen.state))
	fill := func() int {
		if gen.is20() {
			return fill20(t, p)
		}
		return fill12(t, tpm12.New(p))
	}
	places := fill()
	tpm := openName(t, p.Name)
	all, err := tpm.Loaded(t.Context())
	if err != nil || len(all) != places || all[0].Session {
		t.Errorf("%+v %v", all, err)
	}
	for _, name := range []string{gen.plain, gen.secret} {
		k := loadFixture(t, tpm, name)
		mustSign(t, k)
		eventually(t, "the turn ends", func() bool { return loadedIn(t, p, gen) == 0 })
		fill()
		if keys, sessions, err := tpm.FlushOrphans(t.Context(), false); keys != places || sessions != 0 || err != nil {
			t.Errorf("freed %d keys, %d sessions, %v", keys, sessions, err)
		}
		mustSign(t, k)
	}
}

// A session that was opened for a key ends with it: freeing both is no error.
func TestFlushOrphansFreesKeyWithSession(t *testing.T) {
	t.Parallel()
	tpmtest.Long(t, tpmtest.Slow12)
	sw := tpmtest.Start(t, tpmtest.Tutorial)
	killed := raw(t, sw)
	srk, secret := tpm12.Secret(sha1.Sum(nil)), tpm12.Secret(sha1.Sum([]byte("motdepasse")))
	key, err := killed.LoadKey2(tpm12.SRK, fixture12(t, "auth").Bytes(), &srk)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := killed.OpenKeySession(key, &secret); err != nil {
		t.Fatal(err)
	}
	tpm := openName(t, sw.Socket)
	before, err := tpm.Loaded(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	keys, sessions, err := tpm.FlushOrphans(t.Context(), false)
	if err != nil || keys != 1 || keys+sessions != len(before) {
		t.Errorf("freed %d keys and %d sessions of %+v, %v", keys, sessions, before, err)
	}
	if after, err := tpm.Loaded(t.Context()); err != nil || len(after) != 0 {
		t.Errorf("left: %+v, %v", after, err)
	}
}

// Sessions that killed programs left are freed with their keys.
func TestFlushOrphansFreesSessions(t *testing.T) {
	t.Parallel()
	tpmtest.Long(t, tpmtest.Slow12)
	sw := tpmtest.Start(t, tpmtest.Tutorial)
	oiap := []byte{0, 0xc1, 0, 0, 0, 10, 0, 0, 0, ordOIAP}
	for range 16 { // all that libtpms has
		sw.Send(oiap)
	}
	tpm := openName(t, sw.Socket)
	load := func() error {
		k, err := tpm.Load(t.Context(), parseFixture(t, "maclef"), &tpmkey.LoadOptions{ParentAuth: tutorialSRK()})
		if err == nil {
			err = k.Close()
		}
		return err
	}
	if keys, sessions, err := tpm.FlushOrphans(t.Context(), false); keys != 0 || sessions != 16 || err != nil {
		t.Errorf("flushed %d keys and %d sessions, %v", keys, sessions, err)
	}
	for range 16 {
		sw.Send(oiap)
	}
	if err := load(); err != nil { // or when their place is needed
		t.Error(err)
	}
}
