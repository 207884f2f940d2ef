package chip20

import (
	"context"
	"crypto"
	"testing"
	"time"

	"maclef/blob"
	"maclef/internal/tpm20"
	"maclef/internal/tpmtest"
	"maclef/internal/transport"

	"github.com/google/go-tpm/tpm2"
)

// openSocket opens a TPM and runs f while this process has it.
func openSocket(t *testing.T, name string, f func(c *Chip) error) error {
	t.Helper()
	dev, err := transport.Open(name, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	defer dev.Close()
	release, err := dev.Acquire(context.Background(), time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	c, err := Open(dev, time.Second, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	return f(c)
}

// A file names the hierarchy, and not which primary key its programs made of it: all
// that are known are found, those of smallstep, of go-tpm and of tpm2-tools, too.
func TestEveryPrimary(t *testing.T) {
	t.Parallel()
	name := tpmtest.Start(t, tpmtest.TPM20).Socket
	template, err := blob.NewTSS2Template(blob.TSS2Template{Type: "p256"})
	if err != nil {
		t.Fatal(err)
	}
	area, err := tpm2.Unmarshal[tpm2.TPMTPublic](template)
	if err != nil {
		t.Fatal(err)
	}
	for p := range numberOfPrimaries {
		area.ObjectAttributes.FixedTPM = p != primaryOld // which may be moved, and what is below it
		var file blob.Key
		if err := openSocket(t, name, func(c *Chip) (err error) {
			made := blob.TSS2{EmptyAuth: true, Parent: uint32(tpm2.TPMRHOwner)}
			err = c.withParent(parentID{tpm2.TPMRHOwner, p}, nil, func(parent *loadedParent) error {
				auth, _, err := parent.auth(tpm2.TPMCCCreate, tpm20.EncryptIn)
				if err == nil {
					made.Private, made.Public, err = c.conn.Create(parent.Object, auth, nil, nil, *area)
				}
				return err
			})
			c.EndSessions(0)
			file = &made
			return err
		}); err != nil {
			t.Fatalf("primary %d: %v", p, err)
		}
		if err := openSocket(t, name, func(c *Chip) error { return loadAndSign(c, file) }); err != nil {
			t.Errorf("primary %d: %v", p, err)
		}
	}
}

func loadAndSign(c *Chip, file blob.Key) error {
	ops, err := c.Use(file)
	if err != nil {
		return err
	}
	op, err := ops.Sign(make([]byte, 32), crypto.SHA256)
	if err != nil {
		return err
	}
	in, err := c.Load(file, nil)
	if err != nil {
		return err
	}
	defer c.Flush(0, in.Handle())
	sig, err := op.Run(in, nil)
	if err == nil {
		err = op.Verify(sig)
	}
	return err
}
