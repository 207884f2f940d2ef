package keymgr

import (
	"math/rand/v2"
	"testing"

	"maclef/internal/chip"
)

// An operation needs a secret again and again if others ask for it first, and what they load is lost. It
// asks once for each secret, when two attempts after each other need the same one, and ends after
// maxAsking.
func TestAsksOncePerSecret(t *testing.T) {
	asked := ""
	source := func(name string) *secretSource {
		return newSecretSource(chip.TPM20, AskSecret(func() (Secret, error) {
			asked += name
			return WellKnown(), nil
		}), name)
	}
	d := &modelDevice{model: newModel(rand.New(rand.NewPCG(1, 1)), chip.TPM20)}
	tpm := New(d, &modelChip{d: d, own: map[uint32]bool{}}, nil)
	h := &Key{tpm: tpm, needsSecret: true, secret: source("k"), parentSecret: source("p")}
	p := &task{tpm: tpm, work: &Work{Ctx: noLimit, Key: h}, with: new(secrets), repairs: map[chip.ErrClass]int{}}
	const needs = "pkpkp" + "p" + "kk" + "pkpkpkpk"
	for i, of := range needs {
		if again, err := p.repair(&needed{of == 'p'}); !again {
			t.Fatalf("attempt %d: %v", i+1, err)
		}
		want := ""
		switch {
		case i >= 7:
			want = "pk"
		case i >= 5:
			want = "p"
		}
		if asked != want {
			t.Errorf("after attempt %d, it has asked for %q, want %q", i+1, asked, want)
		}
	}
	if again, _ := p.repair(&needed{true}); again || len(needs) != maxAsking {
		t.Errorf("%d attempts were not enough", len(needs)+1)
	}
	p.end()
	if len(h.secret.asking)+len(h.parentSecret.asking) > 0 {
		t.Error("nobody else can ask")
	}
}
