package tpmkey

import (
	"crypto"
	"testing"

	"maclef/blob"
	"maclef/internal/tpmtest"
)

// A file names the hierarchy, and not which primary key its programs made of it: all
// that are known are found, those of smallstep, of go-tpm and of tpm2-tools, too.
func TestEveryPrimary20(t *testing.T) {
	name := tpmtest.Start(t, tpmtest.TPM20).Socket
	open := func() *TPM {
		tpm, err := Open(name)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { tpm.Close() })
		return tpm
	}
	maker := open()
	area, err := blob.NewTSS2Template(blob.TSS2Template{Type: "p256"})
	if err != nil {
		t.Fatal(err)
	}
	for p := range numberOfPrimaries {
		area.ObjectAttributes.FixedTPM = p != primaryOld // which may be moved, and what is below it
		var file *blob.Key
		chip := maker.chip.(*chip20)
		err := maker.simply(func() (err error) {
			file, err = chip.createUnder(parentID{madeUnder(0).handle, p}, area, nil, nil, nil, blob.TSS2{})
			return err
		})
		if err != nil {
			t.Fatalf("primary %d: %v", p, err)
		}
		k, err := open().Load(file, nil)
		if err != nil {
			t.Errorf("primary %d: %v", p, err)
			continue
		}
		if _, err := k.Sign(nil, make([]byte, 32), crypto.SHA256); err != nil {
			t.Errorf("primary %d: %v", p, err)
		}
	}
}
