package tpmtest

import (
	"os"
	"path/filepath"

	"github.com/google/go-tpm/tpm2"
)

// States of TPM 2.0. Whatever has no secret here has the empty one.
var (
	// TPM20 is a new TPM 2.0.
	TPM20 = State{tpm2: true}
	// Keys20 owns the keys of tpm2, and has an RSA storage key at 0x81000001. When it was
	// recorded it had been switched off without a word, which counts as a wrong secret.
	Keys20 = State{tpm2: true, file: "tpm2/tpm2-00.permall"}.then(func(s *SWTPM) { s.Send(LockoutReset()) })
	// OneTry20 is Keys20 when it takes one more wrong secret until it is in lockout.
	OneTry20 = Keys20.then(func(s *SWTPM) { s.spendTries(MaxTries20 - 1) })
	// LockedOut20 is Keys20 in lockout.
	LockedOut20 = Keys20.then(func(s *SWTPM) { s.spendTries(MaxTries20) })
	// Owned20 is Keys20 with the owner's secret "proprio" and the lockout's "verrou".
	Owned20 = Keys20.then(func(s *SWTPM) { s.Send(changeAuth(ownerHierarchy, "proprio"), changeAuth(lockout, "verrou")) })
	// Kept20 is Keys20 with the primary key of most key files at 0x81000001.
	Kept20 = Keys20.then(func(s *SWTPM) { s.Keep(tpm2.ECCSRKTemplate, "") })
	// KeptOwned20 is Kept20 with the owner's secret "proprio".
	KeptOwned20 = Kept20.then(func(s *SWTPM) { s.Send(OwnerSecret("proprio")) })
	// KeptSecret20 is Kept20 with the secret "srk" for what it keeps.
	KeptSecret20 = Keys20.then(func(s *SWTPM) { s.Keep(tpm2.ECCSRKTemplate, "srk") })
	// KeptRSA20 is Keys20 with an RSA storage key at 0x81000001 that counts no wrong secrets.
	KeptRSA20 = Keys20.then(func(s *SWTPM) { s.Keep(tpm2.RSASRKTemplate, "") })
	// OwnerOff20 is Keys20 with its owner's hierarchy switched off until the next start.
	OwnerOff20 = Keys20.then(func(s *SWTPM) { s.Send(authorized(0x121, platform, 0x40, 0, 0, 1, 0)) }) // TPM2_HierarchyControl
	// Failing20 is Keys20 in failure mode until the next start.
	Failing20 = Keys20.then((*SWTPM).fail20)
)

// MaxTries20 is how many wrong secrets lead the TPMs 2.0 of this package into lockout.
const MaxTries20 = 3

// then is a state in which something more was done to the TPM after its first start.
func (s State) then(do func(*SWTPM)) State {
	before := s.prepare
	s.prepare = func(tpm *SWTPM) {
		if before != nil {
			before(tpm)
		}
		do(tpm)
	}
	return s
}

// OwnerSecret gives the owner, who has none, a secret.
func OwnerSecret(secret string) []byte { return changeAuth(ownerHierarchy, secret) }

// changeAuth is TPM2_HierarchyChangeAuth: TPM 2.0 Library Part 3, section 24.8.
func changeAuth(hierarchy uint32, secret string) []byte {
	return authorized(0x129, hierarchy, append([]byte{0, byte(len(secret))}, secret...)...)
}

// Keep has a TPM 2.0 whose owner has no secret keep a primary key at 0x81000001, made from a
// template without anything unique, in place of what is there.
func (s *SWTPM) Keep(template tpm2.TPMTPublic, secret string) {
	const handle = tpm2.TPMHandle(0x81000001)
	tpm := s.Dial()
	defer tpm.Close()
	owner := tpm2.AuthHandle{Handle: tpm2.TPMRHOwner, Auth: tpm2.PasswordAuth(nil)}
	if template.Type == tpm2.TPMAlgECC {
		template.Unique = tpm2.NewTPMUPublicID(tpm2.TPMAlgECC, &tpm2.TPMSECCPoint{})
	} else {
		template.Unique = tpm2.NewTPMUPublicID(tpm2.TPMAlgRSA, &tpm2.TPM2BPublicKeyRSA{})
	}
	before, err := tpm2.ReadPublic{ObjectHandle: handle}.Execute(tpm)
	if err == nil {
		_, err = tpm2.EvictControl{Auth: owner, ObjectHandle: &tpm2.NamedHandle{Handle: handle, Name: before.Name}, PersistentHandle: handle}.Execute(tpm)
	}
	if err != nil {
		s.t.Fatal(err)
	}
	made, err := tpm2.CreatePrimary{
		PrimaryHandle: owner, InPublic: tpm2.New2B(template),
		InSensitive: tpm2.TPM2BSensitiveCreate{Sensitive: &tpm2.TPMSSensitiveCreate{UserAuth: tpm2.TPM2BAuth{Buffer: []byte(secret)}}},
	}.Execute(tpm)
	if err != nil {
		s.t.Fatal(err)
	}
	_, err = tpm2.EvictControl{Auth: owner, ObjectHandle: &tpm2.NamedHandle{Handle: made.ObjectHandle, Name: made.Name}, PersistentHandle: handle}.Execute(tpm)
	if err == nil {
		_, err = tpm2.FlushContext{FlushHandle: made.ObjectHandle}.Execute(tpm)
	}
	if err != nil {
		s.t.Fatal(err)
	}
}

func (s *SWTPM) spendTries(n int) {
	tpm := s.Dial()
	defer tpm.Close()
	SpendTries(s.t, tpm, n)
}

// fail20 has a TPM fail to write its state, which sends it into failure mode.
func (s *SWTPM) fail20() {
	obstacle := filepath.Join(s.Dir, "TMP2-00.permall") // what swtpm writes first
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

// Shutdown tells a TPM 2.0 that it will be switched off: TPM 2.0 Library Part 3,
// section 9.4 (TPM2_Shutdown). Without that the next start counts a wrong secret if
// any secret was used that is protected against guessing.
func (s *SWTPM) Shutdown() {
	s.t.Helper()
	s.Send(shutdown20)
}
