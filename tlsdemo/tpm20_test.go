package main

import (
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-tpm/tpm2"

	"maclef/blob"
	"maclef/internal/tpmtest"
	"maclef/tpmkey"
)

// Keys of all kinds, made by different programs, serve TLS 1.3 and 1.2.
func TestKinds20(t *testing.T) {
	for key, want := range map[string]struct{ kind, tls13, tls12 string }{
		"e2-rsa.pem":           {"RSA 2048", "rsa_pss_rsae_sha256", "rsa_pss_rsae_sha256"},
		"pv-rsa.pem":           {"RSA 2048", "rsa_pss_rsae_sha256", "rsa_pss_rsae_sha256"},
		"e2-import-rsa.pem":    {"RSA 2048", "rsa_pss_rsae_sha256", "rsa_pss_rsae_sha256"},
		"e2-p256-81000001.pem": {"ECDSA P-256", "ecdsa_secp256r1_sha256", "ecdsa_secp256r1_sha256"},
		"e2-p384.pem":          {"ECDSA P-384", "ecdsa_secp384r1_sha384", "ecdsa_sha256"},
		"pv-pss.pem":           {"RSA 2048", "rsa_pss_rsae_sha256", "rsa_pss_rsae_sha256"}, // restricted
		"e2-p256-pcr.pem":      {"ECDSA P-256", "ecdsa_secp256r1_sha256", "ecdsa_secp256r1_sha256"},
	} {
		t.Run(key, func(t *testing.T) {
			r := gen20.rig(t, "tpm2/"+key, nil).serve(nil)
			for version, signature := range map[uint16]string{tls.VersionTLS13: want.tls13, tls.VersionTLS12: want.tls12} {
				client := r.client()
				client.Transport.(*http.Transport).TLSClientConfig.MaxVersion = version
				rep := r.status(client)
				if c := rep.Connection; c.TLS != tls.VersionName(version) || c.Signature != signature || rep.Key.Kind != want.kind {
					t.Errorf("%+v %+v", c, rep.Key)
				}
			}
		})
	}
}

// A tcgRandom gives random numbers that begin with TPM_GENERATED_VALUE.
type tcgRandom struct{}

func (tcgRandom) Read(b []byte) (int, error) {
	rand.Read(b)
	copy(b, "\xffTCG")
	return len(b), nil
}

// In TLS 1.2 the client's random number is the first that the key signs. What a restricted key must
// not sign is the failure of the client that chose it.
func TestRandomThatRestrictedKeyRefuses(t *testing.T) {
	r := gen20.rig(t, "tpm2/pv-pss.pem", nil).serve(nil)
	if _, err := tls.Dial("tcp", r.addr, &tls.Config{RootCAs: r.roots, ServerName: "localhost", MaxVersion: tls.VersionTLS12, Rand: tcgRandom{}}); err == nil {
		t.Error("signed")
	}
	r.log.await(t, "the message begins with ff 54 43 47")
	if h := r.status(r.client()).Handshakes; h.Failed != 1 || h.Unsigned != 0 || h.Complete != 1 {
		t.Errorf("%+v", h)
	}
	if log := r.log.String(); strings.Contains(log, "the key does not sign") {
		t.Error(log)
	}
}

// A key in tpm2-tools' pair of files has a policy whose steps only -policy tells.
func TestPolicyOfPair(t *testing.T) {
	r := newRig(t, "maclef", nil)
	policy, err := tpmkey.ParsePolicy("pcr:sha256:16+auth")
	if err != nil {
		t.Fatal(err)
	}
	tpm := r.open()
	made, err := tpm.Create(t.Context(), &tpmkey.CreateOptions{Type: tpmkey.P256, Auth: tpmkey.Password([]byte("motdepasse")), Policy: policy})
	tpm.Close()
	if err != nil {
		t.Fatal(err)
	}
	file := made.(*blob.TSS2)
	data, err := file.Marshal(file.Container())
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	r.key = filepath.Join(dir, "maclef")
	for name, data := range map[string][]byte{"maclef": data, "pair.pub": file.Public, "pair.priv": file.Private} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	r.certify([]byte("motdepasse"))
	r.key = filepath.Join(dir, "pair.pub")
	_, err = r.fails(r.args("-accept", "0", "-key-pass", "env:LE_MOT")...)
	mention(t, err.Error(), "the steps of its policy are not known")
	_, err = r.fails(r.args("-accept", "0", "-key-pass", "env:LE_MOT", "-policy", "auth")...)
	mention(t, err.Error(), "not the policy that it was made with")
	p := r.start("-key-pass", "env:LE_MOT", "-policy", "pcr:sha256:16+auth")
	p.get()
	p.hangUp("SIGHUP: nothing has changed")
	r.swtpm.Restart()
	p.get()
	p.stop()
	r.wantNothingInTPM()
}

// A PCR changes while it serves, and changes back.
func TestPolicyIsNotMet(t *testing.T) {
	r := gen20.rig(t, "tpm2/e2-rsa-pcr16.pem", nil)
	p := r.start()
	p.get()
	r.swtpm.Send(tpmtest.PCRExtend(16, "another boot loader"))
	p.refused(2)
	mention(t, p.log.await(t, "handshakes fail"), "handshakes fail, the key does not sign: ", "policy is not met", "PCR 16", "; trying again")
	_, err := r.fails(r.args("-accept", "0")...)
	if !errors.Is(err, tpmkey.ErrPolicy) {
		t.Error(err)
	}
	mention(t, err.Error(), "try the key ", "PCR 16")
	r.swtpm.Send(tpmtest.PCRReset(16))
	p.get()
	p.log.await(t, "the key signs again")
	if n := strings.Count(p.log.String(), "handshakes fail,"); n != 1 {
		t.Errorf("told %d times\n%s", n, p.log)
	}
}

// Restarts of a TPM that nobody told of them count as wrong secrets, for keys without
// noDA: a lockout that it serves through as soon as it is over.
func TestLockout20(t *testing.T) {
	r := gen20.rig(t, "tpm2/pv-rsa.pem", nil)
	p := r.start()
	for range tpmtest.MaxTries20 {
		p.get()
		r.swtpm.Restart()
	}
	p.refused(2)
	mention(t, p.log.await(t, "handshakes fail"), "locked out", "; trying again")
	r.swtpm.Send(tpmtest.LockoutReset())
	p.get()
	p.log.await(t, "the key signs again")
}

func TestLockedOutAtStart(t *testing.T) {
	r := gen20.rig(t, "auth counted", []byte("motdepasse"))
	spend(t, r, tpmtest.MaxTries20)
	_, err := r.fails(r.args("-accept", "0", "-key-pass", "pass:motdepasse")...)
	if !errors.Is(err, tpmkey.ErrLockedOut) {
		t.Error(err)
	}
	mention(t, err.Error(), "try the key ", "locked out")
}

func spend(t *testing.T, r *rig, tries int) {
	t.Helper()
	tpm := r.swtpm.Dial()
	defer tpm.Close()
	tpmtest.SpendTries(t, tpm, tries)
}

// A key that the TPM itself keeps has no file.
func TestKeyByHandle(t *testing.T) {
	tpmtest.Long(t, tpmtest.Slow20)
	t.Parallel()
	r := gen20.rig(t, "tpm2/e2-p256.pem", nil)
	handle := r.keep(0x81000042, "one")
	r.key = handle
	r.certify([]byte{})
	p := r.start("-key-pass", "pass:")
	body := p.get()
	mention(t, body, "ECDSA P-256", "ecdsa_secp256r1_sha256")
	mention(t, p.log.String(), "with "+handle+" (ECDSA P-256, TPM 2.0 ")
	r.swtpm.Restart()
	p.get()
	other := tpmtest.FixturePath(t, "tpm2/pv-rsa.crt")
	_, err := r.fails(append(r.args("-accept", "0", "-key-pass", "pass:"), "-cert", other)...)
	mention(t, hint(err), "certgen -key "+handle+" -out maclef.crt")
	_, err = r.fails(append(r.args("-accept", "0"), "-key", "handle:0x81000001")...)
	mention(t, err.Error(), "handle:0x81000001", "restricted")
	_, err = r.fails(append(r.args("-accept", "0"), "-key", "handle:0x81000099")...)
	if !errors.Is(err, tpmkey.ErrNoKey) {
		t.Error(err)
	}
	p.stop()
	r.wantNothingInTPM()
}

// keep has the TPM keep a new P-256 key in place of another, and returns what names it.
func (r *rig) keep(handle tpm2.TPMHandle, unique string) string {
	r.t.Helper()
	tpm := r.swtpm.Dial()
	defer tpm.Close()
	made, err := tpm2.CreatePrimary{PrimaryHandle: tpm2.TPMRHOwner, InPublic: tpm2.New2B(tpm2.TPMTPublic{
		Type: tpm2.TPMAlgECC, NameAlg: tpm2.TPMAlgSHA256,
		ObjectAttributes: tpm2.TPMAObject{
			FixedTPM: true, FixedParent: true, SensitiveDataOrigin: true, UserWithAuth: true, NoDA: true, SignEncrypt: true,
		},
		Parameters: tpm2.NewTPMUPublicParms(tpm2.TPMAlgECC, &tpm2.TPMSECCParms{CurveID: tpm2.TPMECCNistP256}),
		Unique:     tpm2.NewTPMUPublicID(tpm2.TPMAlgECC, &tpm2.TPMSECCPoint{X: tpm2.TPM2BECCParameter{Buffer: []byte(unique)}}),
	})}.Execute(tpm)
	if err != nil {
		r.t.Fatal(err)
	}
	defer tpm2.FlushContext{FlushHandle: made.ObjectHandle}.Execute(tpm)
	if old, err := (tpm2.ReadPublic{ObjectHandle: handle}).Execute(tpm); err == nil {
		named := &tpm2.NamedHandle{Handle: handle, Name: old.Name}
		if _, err := (tpm2.EvictControl{Auth: tpm2.TPMRHOwner, ObjectHandle: named, PersistentHandle: handle}).Execute(tpm); err != nil {
			r.t.Fatal(err)
		}
	}
	_, err = tpm2.EvictControl{
		Auth:             tpm2.TPMRHOwner,
		ObjectHandle:     &tpm2.NamedHandle{Handle: made.ObjectHandle, Name: made.Name},
		PersistentHandle: handle,
	}.Execute(tpm)
	if err != nil {
		r.t.Fatal(err)
	}
	return fmt.Sprintf("handle:%#x", uint32(handle))
}
