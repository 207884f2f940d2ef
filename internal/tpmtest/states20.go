package tpmtest

import (
	"os"
	"path/filepath"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"
)

// States of TPM 2.0. Secrets that are not mentioned are empty.
var (
	// TPM20 is a new TPM 2.0.
	TPM20 = State{tpm2: true}
	// Keys20 owns the keys of testdata/tpm2 and has an RSA storage key at 0x81000001. It
	// was recorded after a restart without TPM2_Shutdown, which counts as a wrong secret.
	Keys20 = State{tpm2: true, file: "tpm2/tpm2-00.permall"}.then(func(s *SWTPM) { s.Send(LockoutReset()) })
	// OneTry20 is Keys20, one wrong secret before the lockout.
	OneTry20 = Keys20.then(func(s *SWTPM) { s.spendTries(MaxTries20 - 1) })
	// LockedOut20 is Keys20 in lockout.
	LockedOut20 = Keys20.then(func(s *SWTPM) { s.spendTries(MaxTries20) })
	// Owned20 is Keys20 with the owner secret "proprio" and the lockout secret "verrou".
	Owned20 = Keys20.then(func(s *SWTPM) { s.Send(changeAuth(ownerHierarchy, "proprio"), changeAuth(lockout, "verrou")) })
	// Kept20 is Keys20 with the primary key of most key files at 0x81000001.
	Kept20 = Keys20.then(func(s *SWTPM) { s.Keep(tpm2.ECCSRKTemplate, "") })
	// KeptOwned20 is Kept20 with the owner secret "proprio".
	KeptOwned20 = Kept20.then(func(s *SWTPM) { s.Send(OwnerSecret("proprio")) })
	// KeptSecret20 is Kept20 with the secret "srk" for the persistent key.
	KeptSecret20 = Keys20.then(func(s *SWTPM) { s.Keep(tpm2.ECCSRKTemplate, "srk") })
	// KeptRSA20 is Keys20 with an RSA storage key at 0x81000001 that counts no wrong
	// secrets.
	KeptRSA20 = Keys20.then(func(s *SWTPM) { s.Keep(tpm2.RSASRKTemplate, "") })
	// Movable20 is TPM20 with a parent that has no fixedTPM, with the secret "parent", at
	// 0x81000101.
	Movable20 = TPM20.then(func(s *SWTPM) {
		template := tpm2.ECCSRKTemplate
		template.ObjectAttributes.FixedTPM, template.ObjectAttributes.FixedParent = false, false
		s.KeepAt(0x81000101, template, "parent")
	})
	// OwnerOff20 is Keys20 with the owner hierarchy disabled until the next start.
	OwnerOff20 = Keys20.then(func(s *SWTPM) { s.Send(authorized(0x121, platform, 0x40, 0, 0, 1, 0)) }) // TPM2_HierarchyControl
	// Failing20 is Keys20 in failure mode until the next start.
	Failing20 = Keys20.then((*SWTPM).enterFailureMode)
)

// MaxTries20 is how many wrong secrets lead to a lockout in the TPM 2.0 states of this
// package.
const MaxTries20 = 3

// then returns a state that also calls f after the first start.
func (s State) then(f func(*SWTPM)) State {
	before := s.prepare
	s.prepare = func(tpm *SWTPM) {
		if before != nil {
			before(tpm)
		}
		f(tpm)
	}
	return s
}

// OwnerSecret returns the command that sets the owner's secret, if the owner has none.
func OwnerSecret(secret string) []byte { return changeAuth(ownerHierarchy, secret) }

// changeAuth returns TPM2_HierarchyChangeAuth. TPM 2.0 Library Part 3, section 24.8
// (TPM2_HierarchyChangeAuth).
func changeAuth(hierarchy uint32, secret string) []byte {
	return authorized(0x129, hierarchy, append([]byte{0, byte(len(secret))}, secret...)...)
}

// Keep makes a primary key from a template with an empty unique field, and makes it
// persistent at 0x81000001, in place of the key there. The owner must have no secret.
func (s *SWTPM) Keep(template tpm2.TPMTPublic, secret string) {
	const handle = tpm2.TPMHandle(0x81000001)
	tpm := s.Dial()
	before, err := tpm2.ReadPublic{ObjectHandle: handle}.Execute(tpm)
	if err == nil {
		err = evict(tpm, handle, before.Name, handle)
	}
	tpm.Close()
	if err != nil {
		s.t.Fatal(err)
	}
	if template.Type == tpm2.TPMAlgECC {
		template.Unique = tpm2.NewTPMUPublicID(tpm2.TPMAlgECC, &tpm2.TPMSECCPoint{})
	} else {
		template.Unique = tpm2.NewTPMUPublicID(tpm2.TPMAlgRSA, &tpm2.TPM2BPublicKeyRSA{})
	}
	s.KeepAt(uint32(handle), template, secret)
}

// KeepAt makes a primary key from a template, and makes it persistent at a free handle. The owner
// must have no secret.
func (s *SWTPM) KeepAt(handle uint32, template tpm2.TPMTPublic, secret string) {
	s.t.Helper()
	tpm := s.Dial()
	defer tpm.Close()
	made, err := tpm2.CreatePrimary{
		PrimaryHandle: tpm2.AuthHandle{Handle: tpm2.TPMRHOwner, Auth: tpm2.PasswordAuth(nil)}, InPublic: tpm2.New2B(template),
		InSensitive: tpm2.TPM2BSensitiveCreate{Sensitive: &tpm2.TPMSSensitiveCreate{UserAuth: tpm2.TPM2BAuth{Buffer: []byte(secret)}}},
	}.Execute(tpm)
	if err != nil {
		s.t.Fatal(err)
	}
	if err = evict(tpm, made.ObjectHandle, made.Name, tpm2.TPMHandle(handle)); err == nil {
		_, err = tpm2.FlushContext{FlushHandle: made.ObjectHandle}.Execute(tpm)
	}
	if err != nil {
		s.t.Fatal(err)
	}
}

// evict sends TPM2_EvictControl. TPM 2.0 Library Part 3, section 28.5 (TPM2_EvictControl).
func evict(tpm transport.TPM, object tpm2.TPMHandle, name tpm2.TPM2BName, persistent tpm2.TPMHandle) error {
	_, err := tpm2.EvictControl{
		Auth:         tpm2.AuthHandle{Handle: tpm2.TPMRHOwner, Auth: tpm2.PasswordAuth(nil)},
		ObjectHandle: &tpm2.NamedHandle{Handle: object, Name: name}, PersistentHandle: persistent,
	}.Execute(tpm)
	return err
}

func (s *SWTPM) spendTries(n int) {
	tpm := s.Dial()
	defer tpm.Close()
	SpendTries(s.t, tpm, n)
}

// enterFailureMode makes a write of the TPM's state fail, which sends the TPM into failure
// mode.
func (s *SWTPM) enterFailureMode() {
	obstacle := filepath.Join(s.Dir, "TMP2-00.permall") // swtpm writes this file first
	if err := os.Mkdir(obstacle, 0o700); err != nil {
		s.t.Fatal(err)
	}
	defer os.Remove(obstacle)
	tpm := s.Dial()
	defer tpm.Close()
	rsp, err := tpm.Send(LockoutReset())
	if code, _ := (Exchange{Response: rsp}).Code(); err != nil || code != 0x101 {
		s.t.Fatalf("no failure mode: %x, %v", rsp, err)
	}
}

// Shutdown sends TPM2_Shutdown to a TPM 2.0. TPM 2.0 Library Part 3, section 9.4
// (TPM2_Shutdown). Without it the next start counts a wrong secret if any secret with
// dictionary attack protection was used.
func (s *SWTPM) Shutdown() {
	s.t.Helper()
	s.Send(shutdown20)
}
