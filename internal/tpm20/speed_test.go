package tpm20_test

import (
	"testing"

	"github.com/google/go-tpm/tpm2"

	"maclef/internal/tpm20"
)

// An echo is a TPM that gives the same answer again and again, at no cost.
type echo struct{ reply []byte }

func (e *echo) Send([]byte) ([]byte, error) { return e.reply, nil }

// BenchmarkSign is what a signature costs besides the TPM: by the hand-marshalled
// Sign, and by Run, which is go-tpm's reflection.
func BenchmarkSign(b *testing.B) {
	conn, tap := open(b)
	key := create(b, conn, primary(b, conn, false), eccKey, "")
	tap.Reset()
	if _, err := conn.Sign(key, nil, ecdsaSHA256, message[:], nil); err != nil {
		b.Fatal(err)
	}
	log := tap.Exchanges() // the first one may be of a busy TPM
	canned := tpm20.New(&echo{log[len(log)-1].Response})
	b.Run("Sign", func(b *testing.B) {
		b.ReportAllocs()
		for range b.N {
			if _, err := canned.Sign(key, nil, ecdsaSHA256, message[:], nil); err != nil {
				b.Fatal(err)
			}
		}
	})
	cmd := tpm2.Sign{
		KeyHandle: key.Auth(nil), Digest: tpm2.TPM2BDigest{Buffer: message[:]}, InScheme: ecdsaSHA256,
		Validation: tpm2.TPMTTKHashCheck{Tag: tpm2.TPMSTHashCheck},
	}
	b.Run("Run", func(b *testing.B) {
		b.ReportAllocs()
		for range b.N {
			if _, err := tpm20.Run(canned, cmd); err != nil {
				b.Fatal(err)
			}
		}
	})
	raw := log[0].Command
	b.Run("swtpm, prebuilt", func(b *testing.B) {
		for range b.N {
			if _, err := tap.Send(raw); err != nil {
				b.Fatal(err)
			}
		}
		tap.Reset()
	})
	b.Run("swtpm, Sign", func(b *testing.B) {
		for range b.N {
			if _, err := conn.Sign(key, nil, ecdsaSHA256, message[:], nil); err != nil {
				b.Fatal(err)
			}
		}
		tap.Reset()
	})
	s := session(b, conn, primary(b, conn, false))
	b.Run("swtpm, Sign in a session", func(b *testing.B) {
		for range b.N {
			if _, err := conn.Sign(key, s.For(nil, 0), ecdsaSHA256, message[:], nil); err != nil {
				b.Fatal(err)
			}
		}
		tap.Reset()
	})
}
