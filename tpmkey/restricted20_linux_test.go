package tpmkey_test

import (
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"errors"
	"testing"
	"time"

	"github.com/google/go-tpm/tpm2"

	"maclef/internal/tpmtest"
	"maclef/tpmkey"
)

// lengths are of messages that the TPM hashes with one command, with the longest one, and with a
// sequence of commands.
var lengths = []int{0, 1, 3, 4, 1023, 1024, 1025, 2048, 5000}

// A restricted key signs messages that the TPM has hashed, in every hierarchy, and no digest.
func TestRestrictedKey20(t *testing.T) {
	t.Parallel()
	tpm, p := openKeys20(t)
	const ssa, pss, dsa = tpm2.TPMAlgRSASSA, tpm2.TPMAlgRSAPSS, tpm2.TPMAlgECDSA
	byPSS := &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: crypto.SHA256}
	p256 := kind20{scheme: dsa, hash: tpm2.TPMAlgSHA256, curve: tpm2.TPMECCNistP256}
	for name, c := range map[string]struct {
		kind      kind20
		hierarchy tpm2.TPMHandle
		opts      crypto.SignerOpts
	}{
		"RSASSA":          {kind20{scheme: ssa, hash: tpm2.TPMAlgSHA256}, tpm2.TPMRHOwner, crypto.SHA256},
		"RSASSA, SHA-384": {kind20{scheme: ssa, hash: tpm2.TPMAlgSHA384}, tpm2.TPMRHOwner, crypto.SHA384},
		"RSAPSS":          {kind20{scheme: pss, hash: tpm2.TPMAlgSHA256}, tpm2.TPMRHOwner, byPSS},
		"P-256":           {p256, tpm2.TPMRHOwner, crypto.SHA256},
		"P-256, SHA-384":  {kind20{scheme: dsa, hash: tpm2.TPMAlgSHA384, curve: tpm2.TPMECCNistP256}, tpm2.TPMRHOwner, crypto.SHA384},
		"P-384, SHA-256":  {kind20{scheme: dsa, hash: tpm2.TPMAlgSHA256, curve: tpm2.TPMECCNistP384}, tpm2.TPMRHOwner, crypto.SHA256},
		"endorsement":     {p256, tpm2.TPMRHEndorsement, crypto.SHA256},
		"platform":        {p256, tpm2.TPMRHPlatform, crypto.SHA256},
		"null":            {p256, tpm2.TPMRHNull, crypto.SHA256},
	} {
		t.Run(name, func(t *testing.T) {
			if c.kind.curve == 0 {
				tpmtest.Long(t, tpmtest.Slow20)
			}
			c.kind.sign, c.kind.restricted = true, true
			file, err := tpm.CreateAreaIn(c.hierarchy, c.kind.area())
			if err != nil {
				t.Fatal(err)
			}
			k, err := tpm.Load(t.Context(), reread(t, file), nil)
			if err != nil {
				t.Fatal(err)
			}
			for _, n := range lengths {
				signsMessage(t, k, randomBytes(n), c.opts)
			}
			_, err = k.Sign(nil, make([]byte, c.opts.HashFunc().Size()), c.opts)
			tpmtest.WantError(t, err, tpmkey.ErrNotSupported, "SignMessage")
			_, err = k.SignMessage(nil, []byte("\xffTCG\x80\x18"), c.opts)
			tpmtest.WantError(t, err, tpmkey.ErrNotSupported, "ff 54 43 47")
			if err := k.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	if err := tpm.Close(); err != nil {
		t.Error(err)
	}
	nothingLoaded20(t, p)
}

// signsMessage checks a signature of a message.
func signsMessage(t *testing.T, k *tpmkey.Key, message []byte, opts crypto.SignerOpts) {
	t.Helper()
	sig, err := k.SignMessage(nil, message, opts)
	if err != nil {
		t.Errorf("%d bytes: %v", len(message), err)
		return
	}
	h := opts.HashFunc().New()
	h.Write(message)
	if err := verifies20(k.Public(), h.Sum(nil), opts, sig); err != nil {
		t.Errorf("%d bytes: %v", len(message), err)
	}
}

// nothingLoaded20 checks that nothing is left in a TPM 2.0.
func nothingLoaded20(t *testing.T, p *tpmtest.Proxy) {
	t.Helper()
	inside, err := inside20(p)
	if err != nil || len(inside.keys)+len(inside.sessions) > 0 {
		t.Errorf("left in the TPM: %v %#x, %v", inside.keys, inside.sessions, err)
	}
}

// The files and handles of others: tpm2-openssl's RSA-PSS key, tpm2-tools' attestation key with a
// secret, a kept one.
func TestRestrictedFixtures20(t *testing.T) {
	t.Parallel()
	tpm, p := openKeys20(t)
	byPSS := &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: crypto.SHA256}
	long := randomBytes(3000)
	signsMessage(t, loadWith(t, tpm, "pv-pss", tpmkey.Secret{}, tpmkey.Secret{}), long, byPSS)
	asked := 0
	for _, secret := range []tpmkey.Secret{motdepasse(), tpmkey.AskSecret(func() (tpmkey.Secret, error) { asked++; return motdepasse(), nil })} {
		k, err := tpm.Load(t.Context(), pair20(t, "tools-ak"), &tpmkey.LoadOptions{Auth: secret})
		if err != nil {
			t.Fatal(err)
		}
		for range 3 {
			signsMessage(t, k, long, crypto.SHA256)
			signsMessage(t, k, long[:100], crypto.SHA256)
			time.Sleep(10 * time.Millisecond) // the turn ends
		}
	}
	if asked != 1 {
		t.Errorf("asked %d times", asked)
	}
	wrong, err := tpm.Load(t.Context(), pair20(t, "tools-ak"), &tpmkey.LoadOptions{Auth: tpmkey.Password([]byte("faux"))})
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		_, err := wrong.SignMessage(nil, long, crypto.SHA256)
		tpmtest.WantError(t, err, tpmkey.ErrWrongKeySecret)
	}
	wantTries(t, tpm, 1)
	persist(t, p, 0x81010007, kind20{sign: true, restricted: true, scheme: tpm2.TPMAlgECDSA, hash: tpm2.TPMAlgSHA256, curve: tpm2.TPMECCNistP256}, 1)
	kept, err := tpm.LoadFile(t.Context(), "handle:0x81010007", nil)
	if err != nil {
		t.Fatal(err)
	}
	signsMessage(t, kept, long, crypto.SHA256)
	if err := tpm.Close(); err != nil {
		t.Error(err)
	}
	nothingLoaded20(t, p)
}

// A full TPM has room for the sequence that hashes a long message: keys and sequences that killed
// programs have left, and this program's other keys make room.
func TestRestrictedKeyInFullTPM(t *testing.T) {
	t.Parallel()
	tpm, p := openKeys20(t)
	fill20(t, p)
	k := loadWith(t, tpm, "pv-pss", tpmkey.Secret{}, tpmkey.Secret{})
	others := []string{"pv-p256", "pv-p384", "e2-p256", "e2-p384"}
	byPSS := &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: crypto.SHA256}
	var keys []*tpmkey.Key
	for _, name := range others {
		keys = append(keys, loadWith(t, tpm, name, tpmkey.Secret{}, tpmkey.Secret{}))
	}
	for i := range 8 {
		mustSign(t, keys[i%len(keys)])
		signsMessage(t, k, randomBytes(3000), byPSS)
	}
	tpm.Close()
	for {
		_, err := tpm2.HashSequenceStart{HashAlg: tpm2.TPMAlgSHA256}.Execute(p)
		if errors.Is(err, tpm2.TPMRCObjectMemory) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	tpm = openName(t, p.Name)
	signsMessage(t, loadWith(t, tpm, "pv-pss", tpmkey.Secret{}, tpmkey.Secret{}), randomBytes(3000), byPSS)
	if err := tpm.Close(); err != nil {
		t.Error(err)
	}
	nothingLoaded20(t, p)
}

// SignMessage makes the signatures of Sign with keys of all kinds, and does what
// crypto.MessageSigner promises for hash 0.
func TestSignMessage(t *testing.T) {
	t.Parallel()
	inBoth(t, func(t *testing.T, gen generation) {
		k := loadFixture(t, openState(t, gen.state), gen.counted)
		message := randomBytes(3000)
		digest := sha256.Sum256(message)
		sig, err := k.SignMessage(nil, message, crypto.SHA256)
		if err != nil || rsa.VerifyPKCS1v15(k.Public().(*rsa.PublicKey), crypto.SHA256, digest[:], sig) != nil {
			t.Error(err)
		}
		sig, err = k.SignMessage(nil, []byte("\xffTCG"), crypto.Hash(0))
		if err != nil || rsa.VerifyPKCS1v15(k.Public().(*rsa.PublicKey), 0, []byte("\xffTCG"), sig) != nil {
			t.Error(err)
		}
		for _, opts := range []crypto.SignerOpts{nil, (*rsa.PSSOptions)(nil), crypto.BLAKE2b_384, crypto.Hash(99)} {
			_, err = k.SignMessage(nil, message, opts)
			tpmtest.WantError(t, err, tpmkey.ErrNotSupported)
		}
	})
}
