package tpm20_test

import (
	"bytes"
	"errors"
	"slices"
	"testing"

	"github.com/google/go-tpm/tpm2"

	"maclef/internal/tpm20"
	"maclef/internal/tpmtest"
)

func TestCapabilities(t *testing.T) {
	t.Parallel()
	conn, _ := open(t)
	fixed, err := conn.Properties(tpm2.TPMPTFamilyIndicator)
	if err != nil || fixed[tpm2.TPMPTFamilyIndicator] != 0x322e3000 || fixed[tpm2.TPMPTManufacturer] == 0 {
		t.Errorf("%#x, %v", fixed, err)
	}
	for p := range fixed {
		if p < tpm2.TPMPTFamilyIndicator || p >= tpm2.TPMPTFamilyIndicator+0x100 {
			t.Errorf("property %#x", p)
		}
	}
	algs, err := conn.Algorithms()
	if err != nil || !algs[tpm2.TPMAlgRSA].Asymmetric || !algs[tpm2.TPMAlgSHA256].Hash || algs[tpm2.TPMAlgSHA256].Asymmetric {
		t.Errorf("%v, %v", algs, err)
	}
	curves, err := conn.Curves()
	if err != nil || !slices.Contains(curves, tpm2.TPMECCNistP256) || !slices.Contains(curves, tpm2.TPMECCNistP384) {
		t.Errorf("%v, %v", curves, err)
	}
	commands, err := conn.Commands()
	if err != nil || !commands[tpm2.TPMCCSign] || commands[0x1ff] || len(commands) < 80 {
		t.Errorf("%v, %v", commands, err)
	}
	if r, err := conn.GetRandom(1000); err != nil || len(r) < 16 {
		t.Errorf("%x, %v", r, err)
	}
	if err := conn.Startup(); !errors.Is(err, tpm2.TPMRCInitialize) {
		t.Error(err)
	}
	if err := conn.Shutdown(); err != nil {
		t.Error(err)
	}
}

func TestHandles(t *testing.T) {
	t.Parallel()
	conn, _ := open(t)
	parent := primary(t, conn, false)
	_, err := tpm20.Run(conn, tpm2.EvictControl{
		Auth: tpm20.Hierarchy(tpm2.TPMRHOwner).Auth(nil), ObjectHandle: &tpm2.NamedHandle{Handle: parent.Handle, Name: parent.Name},
		PersistentHandle: 0x81000001})
	if err != nil {
		t.Fatal(err)
	}
	s, p := session(t, conn, parent), mustStart(conn.StartPolicy(tpm2.TPMAlgSHA256, nil))
	for first, want := range map[tpm2.TPMHandle][]tpm2.TPMHandle{
		0x80000000: {parent.Handle}, 0x81000000: {0x81000001}, 0x81000002: nil, 0x03000000: nil,
		0x02000000: {s.Handle(), p.Handle()},
	} {
		if got, err := conn.Handles(first); err != nil || !slices.Equal(got, want) {
			t.Errorf("%#x: %#x, %v", first, got, err)
		}
	}
	o, err := conn.ReadPublic(0x81000001)
	if err != nil || !bytes.Equal(o.Name.Buffer, parent.Name.Buffer) {
		t.Error(o, err)
	}
	if _, err := conn.ReadPublic(0x81000002); !errors.Is(err, tpm2.TPMRCHandle) {
		t.Error(err)
	}
}

func TestTestParms(t *testing.T) {
	t.Parallel()
	conn, _ := open(t)
	for bits, ok := range map[tpm2.TPMKeyBits]bool{2048: true, 1234: false} {
		err := conn.TestParms(tpm2.TPMTPublicParms{Type: tpm2.TPMAlgRSA, Parameters: tpm2.NewTPMUPublicParms(
			tpm2.TPMAlgRSA, &tpm2.TPMSRSAParms{KeyBits: bits})})
		if (err == nil) != ok || err != nil && !isRefused(err) {
			t.Errorf("%d: %v", bits, err)
		}
	}
}

func TestPCRRead(t *testing.T) {
	t.Parallel()
	conn, tap := open(t)
	all := make([]int, 24)
	for i := range all {
		all[i] = i
	}
	values, err := conn.PCRRead(tpm2.TPMAlgSHA256, all)
	if err != nil || len(values) != 24 || !bytes.Equal(values[0], make([]byte, 32)) || !bytes.Equal(values[20], bytes.Repeat([]byte{255}, 32)) {
		t.Errorf("%x, %v", values, err)
	}
	if n := tap.Count(uint32(tpm2.TPMCCPCRRead)); n != 3 {
		t.Errorf("%d commands", n)
	}
	if v, err := conn.PCRRead(tpm2.TPMAlgSHA1, []int{16, 7, 7}); err != nil || len(v) != 2 || len(v[7]) != 20 {
		t.Errorf("%x, %v", v, err)
	}
	for name, f := range map[string]func() error{
		"bank":    func() error { _, err := conn.PCRRead(tpm2.TPMAlgSHA3256, []int{0}); return err },
		"PCR":     func() error { _, err := conn.PCRRead(tpm2.TPMAlgSHA256, []int{30}); return err },
		"SHA-512": func() error { _, err := conn.PCRRead(tpm2.TPMAlgSHA512, []int{30}); return err },
		"none":    func() error { _, err := conn.PCRRead(tpm2.TPMAlgSHA256, []int{-1}); return err },
	} {
		if err := f(); err == nil || name != "bank" && !errors.Is(err, tpm20.ErrNoPCR) {
			t.Error(name, err)
		}
	}
}

// The other generation says so.
func TestTPM12(t *testing.T) {
	t.Parallel()
	sw := tpmtest.Start(t, tpmtest.Fresh)
	if _, err := tpm20.New(dial(t, sw)).GetRandom(8); !errors.Is(err, tpm20.ErrTPM12) {
		t.Error(err)
	}
}
