package tpm20_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"testing"

	"github.com/google/go-tpm/tpm2"

	"maclef/internal/tpm20"
	"maclef/internal/tpmtest"
)

// Salts reach the TPM, whatever zeros coordinates begin with.
func TestSalts(t *testing.T) {
	t.Parallel()
	tpmtest.Long(t, tpmtest.Slow20)
	conn, _ := open(t)
	short := func(o *tpm20.Object) bool {
		p, err := o.Public.Unique.ECC()
		if err != nil {
			t.Fatal(err)
		}
		return len(p.X.Buffer) < 32 || len(p.Y.Buffer) < 32 || p.X.Buffer[0] == 0
	}
	var parent *tpm20.Object
	for i := range 3000 { // each is short by a chance of 1 in 256
		template := storage(false)
		template.Unique = tpm2.NewTPMUPublicID(tpm2.TPMAlgECC, &tpm2.TPMSECCPoint{
			X: tpm2.TPM2BECCParameter{Buffer: binary.BigEndian.AppendUint32(nil, uint32(i))}})
		o, err := conn.CreatePrimary(tpm2.TPMRHNull, nil, template)
		if err != nil {
			t.Fatal(err)
		}
		if short(o) {
			t.Logf("primary %d is a short one", i)
			parent = o
			break
		}
		if err := conn.Flush(o.Handle); err != nil {
			t.Fatal(err)
		}
	}
	if parent == nil {
		t.Fatal("no primary with a short coordinate in 3000: one in 256 has one")
	}
	for range 600 { // of ephemeral keys, too
		s := session(t, conn, parent)
		if _, err := tpm20.Run(conn, tpm2.GetRandom{BytesRequested: 4}, s.For(nil, tpm20.EncryptOut)); err != nil {
			t.Fatal(err)
		}
		s.Close()
	}
	conn.EndSessions()
}

// StartHMAC sends no salt to a key whose name does not fit its public area, or whose point is
// not on the curve.
func TestSaltForAnotherKey(t *testing.T) {
	t.Parallel()
	conn, tap := open(t)
	parent := primary(t, conn, false)
	tap.Reset()
	for name, change := range map[string]func(o *tpm20.Object){
		"name":    func(o *tpm20.Object) { o.Name.Buffer = bytes.Repeat([]byte{1}, 34) },
		"nothing": func(o *tpm20.Object) { o.Public = nil },
		"point": func(o *tpm20.Object) {
			public := *o.Public
			public.Unique = tpm2.NewTPMUPublicID(tpm2.TPMAlgECC, &tpm2.TPMSECCPoint{
				X: tpm2.TPM2BECCParameter{Buffer: []byte{1}}, Y: tpm2.TPM2BECCParameter{Buffer: []byte{1}}})
			o.Public = &public
			n, _ := tpm2.ObjectName(&public)
			o.Name = *n
		},
	} {
		o := *parent
		change(&o)
		s, err := conn.StartHMAC(&o, nil, nil)
		var unanswered *tpm20.Unanswered
		if err == nil || s.Alive() || errors.As(err, &unanswered) {
			t.Errorf("%s: %v", name, err)
		}
	}
	wantCommands(t, tap)
}
