package chip20

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"maclef/internal/chip"
	"testing"

	"github.com/google/go-tpm/tpm2"
)

// Every salt length, with every hash, on keys of two sizes.
func TestSign20PSS(t *testing.T) {
	t.Parallel()
	for _, private := range []*rsa.PrivateKey{softwareRSA(), softwareRSA1024()} {
		k := &software20{rsa: private}
		able := k.able(t, signs|decrypts, keyScheme{}, tpm2.TPMAlgSHA256)
		for _, h := range every {
			if !h.Available() { // MD5SHA1
				continue
			}
			digest := someDigest(h)
			room := maxPSSSalt(&private.PublicKey, h)
			for _, n := range []int{rsa.PSSSaltLengthEqualsHash, rsa.PSSSaltLengthAuto, 1, 20, 31, 32, 33, room - 1, room} {
				opts := &rsa.PSSOptions{SaltLength: n, Hash: h}
				sig, err := k.signed(t, able, digest, opts)
				switch {
				case n > room || n == rsa.PSSSaltLengthEqualsHash && h.Size() > room:
					if !errors.Is(err, chip.ErrNotSupported) {
						t.Errorf("%v, salt %d of %d: %v", h, n, room, err)
					}
					continue
				case err != nil:
					t.Errorf("%v, salt %d of %d: %v", h, n, room, err)
					continue
				case n == rsa.PSSSaltLengthAuto: // as crypto/rsa does
					opts.SaltLength = room
				}
				if err := rsa.VerifyPSS(&private.PublicKey, h, digest, sig, opts); err != nil {
					t.Errorf("%v, salt %d of %d: %v", h, n, room, err)
				}
			}
			for _, n := range []int{room + 1, 1000, -2} {
				if _, err := able.planSign(digest, &rsa.PSSOptions{SaltLength: n, Hash: h}); !errors.Is(err, chip.ErrNotSupported) {
					t.Errorf("%v, salt %d of %d: %v", h, n, room, err)
				}
			}
		}
	}
}

// No two blocks are alike, and odd sizes of moduli are right.
func TestEMSAPSS(t *testing.T) {
	t.Parallel()
	for bits := 1024; bits < 1034; bits++ {
		private, err := rsa.GenerateKey(rand.Reader, bits)
		if err != nil {
			t.Fatal(err)
		}
		k, digest, salt := &software20{rsa: private}, someDigest(crypto.SHA256), someDigest(crypto.SHA1)
		sig, ok := padded(k.raw(emsaPSS(&private.PublicKey, crypto.SHA256, digest, salt)), private.Size())
		if !ok || rsa.VerifyPSS(&private.PublicKey, crypto.SHA256, digest, sig, &rsa.PSSOptions{SaltLength: 20}) != nil {
			t.Errorf("%d bits: %v", bits, ok)
		}
	}
	able := (&software20{rsa: softwareRSA()}).able(t, signs|decrypts, keyScheme{})
	opts := &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: crypto.SHA256}
	one, _ := able.planSign(make([]byte, 32), opts)
	other, _ := able.planSign(make([]byte, 32), opts)
	if bytes.Equal(one.area, other.area) {
		t.Error("two salts are the same")
	}
}

// A key that only signs has the salt that the chip makes, or none; the chip's first
// signature tells.
func TestSign20PSSSignOnly(t *testing.T) {
	t.Parallel()
	for _, longest := range []bool{false, true} {
		k := &software20{rsa: softwareRSA(), longest: longest}
		able := k.able(t, signs, keyScheme{})
		room := maxPSSSalt(&k.rsa.PublicKey, crypto.SHA256)
		for i, c := range []struct {
			salt int
			fits bool
		}{
			{rsa.PSSSaltLengthAuto, true}, {rsa.PSSSaltLengthEqualsHash, !longest}, {32, !longest}, {room, longest}, {20, false}, {33, false},
		} {
			digest, opts := someDigest(crypto.SHA256), &rsa.PSSOptions{SaltLength: c.salt, Hash: crypto.SHA256}
			s, err := able.planSign(digest, opts)
			if i > 0 && (err == nil) != c.fits { // what is learnt already
				t.Errorf("longest %v, salt %d: %v", longest, c.salt, err)
			}
			if err == nil && s.unsure {
				t.Errorf("longest %v, salt %d: still unsure", longest, c.salt)
			}
			able.can.salt.kind.Store(saltUnknown)
			s, err = able.planSign(digest, opts)
			if err != nil || s.unsure != (c.salt != rsa.PSSSaltLengthAuto) {
				t.Fatal(err)
			}
			sig, err := k.signed(t, able, digest, opts)
			switch {
			case !c.fits && !errors.Is(err, chip.ErrNotSupported):
				t.Errorf("longest %v, salt %d: %v", longest, c.salt, err)
			case c.fits && (err != nil || rsa.VerifyPSS(&k.rsa.PublicKey, crypto.SHA256, digest, sig, opts) != nil):
				t.Errorf("longest %v, salt %d: %v", longest, c.salt, err)
			}
		}
		if _, err := able.planSign(someDigest(crypto.SHA3_256), &rsa.PSSOptions{Hash: crypto.SHA3_256}); !errors.Is(err, chip.ErrNotSupported) {
			t.Error(err)
		}
	}
}
