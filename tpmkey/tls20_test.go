package tpmkey_test

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"go/build"
	"runtime"
	"slices"
	"testing"

	"github.com/google/go-tpm/tpm2"

	"maclef/internal/tpmtest"
	"maclef/tpmkey"
)

// Go's clients shake hands with every kind of key that can, in the newest version that
// the key can.
func TestTLS20(t *testing.T) {
	t.Parallel()
	tpm := openState(t, tpmtest.TPM20)
	for name, c := range map[string]struct {
		kind    kind20
		version uint16
		self    x509.SignatureAlgorithm
	}{
		"RSA":              {kind20{sign: true, decrypt: true}, tls.VersionTLS13, 0},
		"RSA, signs only":  {kind20{sign: true}, tls.VersionTLS13, 0}, // swtpm's salts are right
		"RSASSA":           {kind20{sign: true, scheme: tpm2.TPMAlgRSASSA, hash: tpm2.TPMAlgSHA256}, tls.VersionTLS12, 0},
		"RSAPSS":           {kind20{sign: true, scheme: tpm2.TPMAlgRSAPSS, hash: tpm2.TPMAlgSHA256}, tls.VersionTLS13, x509.SHA256WithRSAPSS},
		"P-256":            {kind20{sign: true, curve: tpm2.TPMECCNistP256}, tls.VersionTLS13, 0},
		"P-384":            {kind20{sign: true, curve: tpm2.TPMECCNistP384}, tls.VersionTLS13, 0},
		"P-521":            {kind20{sign: true, curve: tpm2.TPMECCNistP521}, tls.VersionTLS13, 0},
		"P-384 of SHA-256": {kind20{sign: true, curve: tpm2.TPMECCNistP384, scheme: tpm2.TPMAlgECDSA, hash: tpm2.TPMAlgSHA256}, tls.VersionTLS12, x509.ECDSAWithSHA256},

		"restricted, P-256":  {kind20{sign: true, restricted: true, curve: tpm2.TPMECCNistP256, scheme: tpm2.TPMAlgECDSA, hash: tpm2.TPMAlgSHA256}, tls.VersionTLS13, 0},
		"restricted, RSASSA": {kind20{sign: true, restricted: true, scheme: tpm2.TPMAlgRSASSA, hash: tpm2.TPMAlgSHA256}, tls.VersionTLS12, 0},
		"restricted, RSAPSS": {kind20{sign: true, restricted: true, scheme: tpm2.TPMAlgRSAPSS, hash: tpm2.TPMAlgSHA256}, tls.VersionTLS13, x509.SHA256WithRSAPSS},
	} {
		t.Run(name, func(t *testing.T) {
			if c.kind.curve == 0 && name != "RSA" {
				tpmtest.Long(t, tpmtest.Slow20)
			}
			if c.kind.restricted && !slices.Contains(build.Default.ReleaseTags, "go1.25") {
				tpmtest.Cannot(t, "crypto/x509 and crypto/tls of %s sign digests only", runtime.Version())
			}
			k := loadKind(t, tpm, c.kind)
			chain := certify(t, k, k, c.self)
			config, err := k.TLSConfigPEM(chain)
			if err != nil {
				t.Fatal(err)
			}
			client := trusting(chain)
			if state := handshake(t, config, client); state.Version != c.version {
				t.Errorf("version %#x", state.Version)
			}
			client.MaxVersion = tls.VersionTLS12
			if state := handshake(t, config, client); state.Version != tls.VersionTLS12 {
				t.Errorf("version %#x", state.Version)
			}
			if c.kind.decrypt { // the key exchange of old
				config.CipherSuites, config.MaxVersion = []uint16{tls.TLS_RSA_WITH_AES_128_GCM_SHA256}, tls.VersionTLS12
				client.CipherSuites = config.CipherSuites
				handshake(t, config, client)
			}
		})
	}
}

func TestTLS20Refuses(t *testing.T) {
	t.Parallel()
	tpm := openState(t, tpmtest.TPM20)
	k := loadKind(t, tpm, kind20{sign: true, curve: tpm2.TPMECCNistP256})
	other := loadKind(t, tpm, kind20{sign: true, curve: tpm2.TPMECCNistP256})
	_, err := k.TLSCertificate(selfSigned(t, other))
	tpmtest.WantError(t, err, tpmkey.ErrWrongCertificate, "localhost")
	other.Close()
	agrees := loadKind(t, tpm, kind20{decrypt: true, curve: tpm2.TPMECCNistP256})
	_, err = agrees.TLSConfigPEM(selfSigned(t, k))
	tpmtest.WantError(t, err, tpmkey.ErrNotSupported, "sign")
	agrees.Close()
	sha1 := loadKind(t, tpm, kind20{sign: true, scheme: tpm2.TPMAlgRSASSA, hash: tpm2.TPMAlgSHA1})
	_, err = sha1.TLSConfigPEM(selfSigned(t, k))
	tpmtest.WantError(t, err, tpmkey.ErrNotSupported, "SHA-1")
}

// A chip whose salts are as long as they can be, as those before revision 1.38 were:
// one signature shows TLSConfig that the key cannot do TLS 1.3, and TLS 1.2 works.
func TestTLS20LongestSalt(t *testing.T) {
	t.Parallel()
	private, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	tap := tpmtest.NewTap(tpmtest.Start(t, tpmtest.TPM20).Dial())
	pss := 0
	tap.After = func(_ int, cmd, rsp []byte, err error) ([]byte, error) {
		if digest := pssDigest(cmd); digest != nil && err == nil {
			pss++
			sig, err := rsa.SignPSS(rand.Reader, private, crypto.SHA256, digest, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthAuto})
			copy(rsp[len(rsp)-len(sig)-5:], sig) // 5: an empty nonce, attributes, an empty HMAC
			return rsp, err
		}
		return rsp, err
	}
	tpm, err := tpmkey.OpenTransport(t.Context(), tap)
	if err != nil {
		t.Fatal(err)
	}
	defer tpm.Close()
	file, err := tpm.ImportArea(kind20{sign: true}.area(), private)
	if err != nil {
		t.Fatal(err)
	}
	k, err := tpm.Load(t.Context(), file, nil)
	if err != nil {
		t.Fatal(err)
	}
	chain := selfSigned(t, k)
	for range 2 {
		config, err := k.TLSConfigPEM(chain)
		if err != nil || config.MaxVersion != tls.VersionTLS12 {
			t.Fatalf("%#x, %v", config.MaxVersion, err)
		}
		if state := handshake(t, config, trusting(chain)); state.Version != tls.VersionTLS12 {
			t.Errorf("version %#x", state.Version)
		}
	}
	if pss != 1 {
		t.Errorf("%d test signatures", pss)
	}
	digest := randomBytes(32)
	wantSignature(t, k, digest, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: crypto.SHA256}, false)
	wantSignature(t, k, digest, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthAuto, Hash: crypto.SHA256}, true)
	wantSignature(t, k, digest, &rsa.PSSOptions{SaltLength: 222, Hash: crypto.SHA256}, true)
	if pss != 3 || tap.Count(0x157) != 1 { // TPM2_Load
		t.Errorf("%d signatures by RSAPSS, %d loads", pss, tap.Count(0x157))
	}
}

// pssDigest is the SHA-256 digest in a TPM2_Sign by RSAPSS, nil for other commands.
func pssDigest(cmd []byte) []byte {
	at := bytes.LastIndex(cmd, []byte{0, 0x16, 0, 0x0b}) // the scheme, after the digest
	if !bytes.Equal(cmd[6:10], []byte{0, 0, 1, 0x5d}) || at < 34 {
		return nil
	}
	return cmd[at-32 : at]
}
