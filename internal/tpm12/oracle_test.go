package tpm12_test

import (
	"bytes"
	"crypto"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/binary"
	"math/bits"
	"testing"
	"time"

	"maclef/blob"
	"maclef/internal/tpm12"
	"maclef/internal/tpmtest"
	"maclef/internal/transport"

	oracle "github.com/google/go-tpm/tpm"
)

// open connects to a software TPM; what the test sends is in the tap.
func open(t *testing.T, state tpmtest.State) (*tpm12.Conn, *tpmtest.Tap) {
	t.Helper()
	dev, err := transport.Open(tpmtest.Start(t, state).Socket, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	tap := tpmtest.NewTap(dev)
	t.Cleanup(func() { tap.Close() })
	return tpm12.New(tap), tap
}

var wellKnown = new(tpm12.Secret)

// tutorialSRK is the SRK's secret of the tutorial's TPM: SHA1 of nothing.
func tutorialSRK() *tpm12.Secret {
	s := tpm12.Secret(sha1.Sum(nil))
	return &s
}

// The oracle is go-tpm's own TPM 1.2 package, on the same TPM, by way of a
// readWriter: go-tpm's adapter ends each reply with io.EOF, which that package
// takes for an error.
type readWriter struct {
	tap   *tpmtest.Tap
	reply []byte
}

func (rw *readWriter) Write(cmd []byte) (n int, err error) {
	rw.reply, err = rw.tap.Send(cmd)
	return len(cmd), err
}

func (rw *readWriter) Read(p []byte) (int, error) { return copy(p, rw.reply), nil }

func TestCapabilitiesAgree(t *testing.T) {
	t.Parallel()
	conn, tap := open(t, tpmtest.Tutorial)
	rw := &readWriter{tap: tap}
	version, err := conn.Version()
	if err != nil {
		t.Fatal(err)
	}
	want, err := oracle.GetCapVersionVal(rw)
	if err != nil {
		t.Fatal(err)
	}
	// go-tpm decodes this structure's 16-bit fields with the wrong byte order.
	if version.SpecLevel != bits.ReverseBytes16(want.SpecLevel) || version.ErrataRev != want.ErrataRev || version.VendorID != want.TPMVendorID ||
		version.RevMajor != want.Version.RevMajor || version.RevMinor != want.Version.RevMinor {
		t.Errorf("version %+v, want %+v", version, want)
	}
	flags, err := conn.Flags()
	if err != nil {
		t.Fatal(err)
	}
	perm, err := oracle.GetPermanentFlags(rw)
	if err != nil {
		t.Fatal(err)
	}
	if flags.Disabled != perm.Disable || flags.Deactivated != perm.Deactivated || flags.ReadSRKPub != perm.ReadSRKPub ||
		flags.CanBeOwned != perm.Ownership || flags.DisableOwnerClear != perm.DisableOwnerClear ||
		flags.PresenceFixed != perm.PhysicalPresenceLifetimeLock || flags.PresenceByPin != perm.PhysicalPresenceHWEnable ||
		flags.PresenceByCommand != perm.PhysicalPresenceCMDEnable {
		t.Errorf("flags %+v, want %+v", flags, perm)
	}
}

func TestLoadedKeysAgree(t *testing.T) {
	t.Parallel()
	tpmtest.Long(t, tpmtest.Slow12)
	conn, tap := open(t, tpmtest.Tutorial)
	rw := &readWriter{tap: tap}
	mine, err := conn.LoadKey2(tpm12.SRK, tpmtest.Fixture(t, "tpm12-tutorial/maclef.raw"), tutorialSRK())
	if err != nil {
		t.Fatal(err)
	}
	theirs, err := oracle.LoadKey2(rw, tpmtest.Fixture(t, "tpm12-tutorial/oaep.raw"), tutorialSRK()[:])
	if err != nil {
		t.Fatal(err)
	}
	want, err := oracle.GetKeys(rw)
	if err != nil {
		t.Fatal(err)
	}
	got, err := conn.LoadedKeys()
	if err != nil || len(got) != 2 || len(want) != 2 {
		t.Fatalf("%v, %v; want %v", got, err, want)
	}
	for i, h := range []tpm12.Handle{mine, tpm12.Handle(theirs)} {
		if got[i] != h || uint32(want[i]) != uint32(h) {
			t.Errorf("%v, want %v", got, want)
		}
	}
	free, total, err := conn.KeySlots()
	if err != nil || total-free != 2 {
		t.Errorf("%d of %d slots free, %v", free, total, err)
	}
}

// A key with a secret, made by each side and used by the other.
func TestKeysWithSecretsAgree(t *testing.T) {
	t.Parallel()
	tpmtest.Long(t, tpmtest.Slow12)
	conn, tap := open(t, tpmtest.Tutorial)
	rw := &readWriter{tap: tap}
	srk, usage := tutorialSRK(), tpm12.Secret(sha1.Sum([]byte("motdepasse")))
	theirs, err := oracle.CreateWrapKey(rw, srk[:], oracle.Digest(usage), oracle.Digest{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	template, err := blob.NewTemplate(blob.Template{
		Bits: 2048, EncScheme: blob.ESRSAESPKCSv15, SigScheme: blob.SSRSASSAPKCS1v15DER, NeedSecret: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	mine, err := conn.CreateWrapKey(tpm12.SRK, srk, template.Bytes(), &usage, wellKnown)
	if err != nil {
		t.Fatal(err)
	}
	digest := sha256.Sum256([]byte("bonjour"))
	info := append([]byte("\x30\x31\x30\x0d\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x01\x05\x00\x04\x20"), digest[:]...)
	for name, key := range map[string][]byte{"mine": mine, "theirs": theirs} {
		handle, err := conn.LoadKey2(tpm12.SRK, key, srk)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		got, err := conn.Sign(handle, info, &usage)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		h, err := oracle.LoadKey2(rw, key, srk[:])
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		want, err := oracle.Sign(rw, usage[:], h, crypto.SHA256, digest[:])
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: %x; want %x, %v", name, got, want, err)
		}
		k, err := blob.Parse(key)
		if err != nil {
			t.Fatal(err)
		}
		if err := rsa.VerifyPKCS1v15(k.PublicKey().(*rsa.PublicKey), crypto.SHA256, digest[:], got); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestOwnershipAgrees(t *testing.T) {
	t.Parallel()
	tpmtest.Long(t, tpmtest.Slow12)
	conn, tap := open(t, tpmtest.Fresh)
	rw := &readWriter{tap: tap}
	pub, err := conn.CreateEndorsementKeyPair()
	if err != nil {
		t.Fatal(err)
	}
	again, err := conn.ReadPubek()
	if err != nil || !bytes.Equal(pub, again) {
		t.Errorf("TPM_ReadPubek: %x, %v", again, err)
	}
	theirEK, err := oracle.ReadPubEK(rw)
	if err != nil || !bytes.Equal(theirEK, pub) {
		t.Errorf("endorsement key %x, %v; want %x", theirEK, err, pub)
	}
	if err := oracle.TakeOwnership(rw, oracle.Digest{}, oracle.Digest{}, theirEK); err != nil {
		t.Fatal(err)
	}
	owned, err := conn.Owned()
	if err != nil || !owned {
		t.Errorf("owned %v, %v", owned, err)
	}
	srk, err := conn.OwnerReadInternalPub(tpm12.SRK, wellKnown)
	if err != nil {
		t.Fatal(err)
	}
	if theirs, err := oracle.OwnerReadSRK(rw, oracle.Digest{}); err != nil || !bytes.Equal(theirs, srk) {
		t.Errorf("SRK %x, %v; want %x", theirs, err, srk)
	}
	if _, err := blob.ParsePubKey(srk); err != nil {
		t.Error(err)
	}
}

func TestGetRandom(t *testing.T) {
	t.Parallel()
	conn, tap := open(t, tpmtest.Fresh)
	got, err := conn.GetRandom(32)
	if err != nil || len(got) != 32 {
		t.Errorf("%x, %v", got, err)
	}
	cmd := tap.Exchanges()[0].Command
	want := binary.BigEndian.AppendUint32([]byte{0, 0xc1, 0, 0, 0, 14, 0, 0, 0, 0x46}, 32)
	if !bytes.Equal(cmd, want) {
		t.Errorf("command %x, want %x", cmd, want)
	}
}
