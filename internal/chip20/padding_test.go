package chip20

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"maclef/internal/chip"
	"maclef/internal/tpmtest"
	"math/big"
	"testing"
)

// encryptBlock makes a ciphertext of a block, as who attacks a padding does.
func encryptBlock(public *rsa.PublicKey, block []byte) []byte {
	m := new(big.Int).SetBytes(block)
	return m.Exp(m, big.NewInt(int64(public.E)), public.N).FillBytes(make([]byte, public.Size()))
}

// badPKCS1 are blocks that are wrong, by what is wrong with them.
func badPKCS1(size int) map[string][]byte {
	block := func(change func(b []byte)) []byte {
		b := bytes.Repeat([]byte{0xa5}, size)
		b[0], b[1], b[20] = 0, 2, 0
		change(b)
		return b
	}
	return map[string][]byte{
		"first byte":              block(func(b []byte) { b[0] = 1 }),
		"block type 1":            block(func(b []byte) { b[1] = 1 }),
		"block type 0":            block(func(b []byte) { b[1] = 0 }),
		"no zero":                 block(func(b []byte) { b[20] = 1 }),
		"seven bytes of padding":  block(func(b []byte) { b[9] = 0 }),
		"no padding":              block(func(b []byte) { b[2] = 0 }),
		"all zeros":               make([]byte, size),
		"first byte and the zero": block(func(b []byte) { b[0], b[20] = 1, 1 }),
	}
}

func TestOpenPKCS1(t *testing.T) {
	t.Parallel()
	for _, private := range []*rsa.PrivateKey{softwareRSA(), softwareRSA1024()} {
		k := &software20{rsa: private}
		able := k.able(t, decrypts, keyScheme{})
		for _, n := range []int{0, 1, 16, 48, private.Size() - 12, private.Size() - 11} {
			message := make([]byte, n)
			rand.Read(message)
			c := mustMake(rsa.EncryptPKCS1v15(rand.Reader, &private.PublicKey, message))
			got, err := k.opened(able, c, &rsa.PKCS1v15DecryptOptions{})
			if err != nil || !bytes.Equal(got, message) {
				t.Errorf("%d bytes: %x, %v", n, got, err)
			}
			if got, err = k.opened(able, c, nil); err != nil || !bytes.Equal(got, message) {
				t.Errorf("%d bytes, nil options: %x, %v", n, got, err)
			}
			if n > 0 {
				if got, err = k.opened(able, c, &rsa.PKCS1v15DecryptOptions{SessionKeyLen: n}); err != nil || !bytes.Equal(got, message) {
					t.Errorf("%d bytes, session key: %x, %v", n, got, err)
				}
			}
		}
		for name, block := range badPKCS1(private.Size()) {
			c := encryptBlock(&private.PublicKey, block)
			if _, err := rsa.DecryptPKCS1v15(nil, private, c); err == nil {
				t.Errorf("%s: crypto/rsa takes it", name)
			}
			if got, err := k.opened(able, c, nil); err != chip.ErrDecryption {
				t.Errorf("%s: %x, %v", name, got, err)
			}
		}
	}
}

// Session keys: an error never, and something else for anything wrong.
func TestOpenSessionKey(t *testing.T) {
	t.Parallel()
	k := &software20{rsa: softwareRSA()}
	able, size := k.able(t, decrypts, keyScheme{}), k.rsa.Size()
	bad := badPKCS1(size)
	for _, n := range []int{0, 1, 47, 49, size - 11} {
		m := make([]byte, n)
		bad["another length"] = append(append([]byte{0, 2}, bytes.Repeat([]byte{1}, size-3-n)...), append([]byte{0}, m...)...)
		for name, block := range bad {
			fallback := bytes.Repeat([]byte{7}, 48)
			c := encryptBlock(&k.rsa.PublicKey, block)
			plain, err := k.opened(able, c, &rsa.PKCS1v15DecryptOptions{SessionKeyLen: 48})
			if err != nil || len(plain) != 49 {
				t.Errorf("%s, %d: %d bytes, %v", name, n, len(plain), err)
			}
			if got := chip.ChooseSessionKey(plain, fallback, true); !bytes.Equal(got, bytes.Repeat([]byte{7}, 48)) {
				t.Errorf("%s, %d: %x", name, n, got)
			}
		}
	}
}

// opened plans a decryption and does what TPM2_RSA_Decrypt does.
func (k *software20) opened(able *keyOps, ciphertext []byte, opts crypto.DecrypterOpts) ([]byte, error) {
	d, err := able.planDecrypt(ciphertext, opts)
	if err != nil {
		return nil, err
	}
	k.asked++
	return d.finish(k.raw(ciphertext))
}

func TestOpenOAEP(t *testing.T) {
	tpmtest.Long(t, tpmtest.Slow20)
	t.Parallel()
	k := &software20{rsa: softwareRSA()}
	able := k.able(t, signs|decrypts, keyScheme{})
	for _, hash := range every {
		for _, mgf := range []crypto.Hash{0, crypto.SHA3_256} {
			for _, label := range []string{"", "TCPA", "with a zero\x00", "\x00in the\x00middle"} {
				if !hash.Available() { // MD5SHA1
					continue
				}
				opts := &rsa.OAEPOptions{Hash: hash, MGFHash: mgf, Label: []byte(label)}
				lengths := []int{32}
				if label == "" {
					lengths = []int{0, 32, k.rsa.Size() - 2*hash.Size() - 2}
				}
				for _, n := range lengths {
					message := make([]byte, n)
					rand.Read(message)
					c := encryptOAEP(k.rsa, message, opts)
					if want, err := k.rsa.Decrypt(nil, c, opts); err != nil || !bytes.Equal(want, message) {
						t.Fatal(err)
					}
					if got, err := k.opened(able, c, opts); err != nil || !bytes.Equal(got, message) {
						t.Errorf("%v, %v, %q, %d bytes: %x, %v", hash, mgf, label, n, got, err)
					}
					other := *opts
					other.Label = []byte(label + "x")
					if got, err := k.opened(able, c, &other); err != chip.ErrDecryption {
						t.Errorf("%v, other label: %x, %v", hash, got, err)
					}
				}
			}
		}
	}
}

// encryptOAEP is rsa.EncryptOAEPWithOptions, which Go 1.24 has not.
func encryptOAEP(k *rsa.PrivateKey, message []byte, o *rsa.OAEPOptions) []byte {
	return encryptBlock(&k.PublicKey, oaepBlock(k.Size(), message, o, nil))
}

// oaepBlock is EME-OAEP; change may change the data block before it is masked.
func oaepBlock(size int, message []byte, o *rsa.OAEPOptions, change func(db []byte)) []byte {
	mgf := o.MGFHash
	if mgf == 0 {
		mgf = o.Hash
	}
	h, n := o.Hash.New(), o.Hash.Size()
	h.Write(o.Label)
	block := make([]byte, size)
	seed, db := block[1:1+n], block[1+n:]
	rand.Read(seed)
	copy(db, h.Sum(nil))
	db[len(db)-len(message)-1] = 1
	copy(db[len(db)-len(message):], message)
	if change != nil {
		change(db)
	}
	mgf1XOR(db, mgf, seed)
	mgf1XOR(seed, mgf, db)
	return block
}

func TestOpenOAEPRefusesBlocks(t *testing.T) {
	t.Parallel()
	k := &software20{rsa: softwareRSA()}
	able := k.able(t, decrypts, keyScheme{})
	opts := &rsa.OAEPOptions{Hash: crypto.SHA256}
	first := oaepBlock(k.rsa.Size(), []byte("bonjour"), opts, nil)
	first[0] = 1
	blocks := map[string][]byte{"first byte": first, "zeros": make([]byte, 256)}
	for name, change := range map[string]func(db []byte){
		"label":            func(db []byte) { db[0] ^= 1 },
		"end of the label": func(db []byte) { db[31] ^= 1 },
		"padding":          func(db []byte) { db[40] = 2 },
		"no one":           func(db []byte) { clear(db[32:]) },
		"nothing":          func(db []byte) { clear(db) },
	} {
		blocks[name] = oaepBlock(k.rsa.Size(), []byte("bonjour"), opts, change)
	}
	for name, block := range blocks {
		c := encryptBlock(&k.rsa.PublicKey, block)
		if _, err := k.rsa.Decrypt(nil, c, opts); !errors.Is(err, rsa.ErrDecryption) {
			t.Errorf("%s: crypto/rsa: %v", name, err)
		}
		if got, err := k.opened(able, c, opts); err != chip.ErrDecryption {
			t.Errorf("%s: %x, %v", name, got, err)
		}
	}
}

// fuzzRSA is a small key, so that inputs reach far.
var fuzzRSA = softwareRSA1024

// below makes a block below the modulus of what a fuzzer gives.
func below(private *rsa.PrivateKey, data []byte) []byte {
	block := make([]byte, private.Size())
	copy(block, data)
	if new(big.Int).SetBytes(block).Cmp(private.N) >= 0 {
		block[0] = 0
	}
	return block
}

// FuzzOpenPKCS1: as crypto/rsa has it.
func FuzzOpenPKCS1(f *testing.F) {
	for _, block := range badPKCS1(128) {
		f.Add(block, 48)
	}
	f.Add(append([]byte{0, 2}, bytes.Repeat([]byte{1}, 77)...), 48)
	f.Fuzz(func(t *testing.T, data []byte, n int) {
		openPKCS1(bytes.Clone(data)) // of any length
		private := fuzzRSA()
		block := below(private, data)
		c := encryptBlock(&private.PublicKey, block)
		want, wantErr := rsa.DecryptPKCS1v15(nil, private, c)
		got, err := openPKCS1(bytes.Clone(block))
		if (err == nil) != (wantErr == nil) || !bytes.Equal(got, want) || err != nil && err != chip.ErrDecryption {
			t.Errorf("%x: %x, %v; crypto/rsa: %x, %v", block, got, err, want, wantErr)
		}
		n = max(0, n) % (len(block) - 10)
		key, fallback := make([]byte, n), make([]byte, n)
		if err := rsa.DecryptPKCS1v15SessionKey(nil, private, c, key); err != nil {
			t.Fatal(err)
		}
		plain, err := openSessionKey(bytes.Clone(block), n)
		if got := chip.ChooseSessionKey(plain, fallback, true); err != nil || !bytes.Equal(got, key) {
			t.Errorf("%x, session key: %x, %v; crypto/rsa: %x", block, got, err, key)
		}
	})
}

// FuzzOpenOAEP: as crypto/rsa has it.
func FuzzOpenOAEP(f *testing.F) {
	opts := &rsa.OAEPOptions{Hash: crypto.SHA256, MGFHash: crypto.SHA1, Label: []byte("label")}
	f.Add(oaepBlock(128, []byte("bonjour"), opts, nil), []byte("label"))
	f.Add(oaepBlock(128, nil, opts, nil), []byte("label"))
	f.Add(oaepBlock(128, []byte("bonjour"), opts, func(db []byte) { db[40] = 2 }), []byte("label"))
	f.Add(oaepBlock(128, []byte("bonjour"), opts, func(db []byte) { clear(db[32:]) }), []byte(""))
	f.Fuzz(func(t *testing.T, data, label []byte) {
		scheme := oaep{crypto.SHA256, crypto.SHA1, label}
		scheme.open(bytes.Clone(data)) // of any length
		private := fuzzRSA()
		block := below(private, data)
		want, wantErr := private.Decrypt(nil, encryptBlock(&private.PublicKey, block), &rsa.OAEPOptions{Hash: crypto.SHA256, MGFHash: crypto.SHA1, Label: label})
		got, err := scheme.open(bytes.Clone(block))
		if (err == nil) != (wantErr == nil) || !bytes.Equal(got, want) || err != nil && err != chip.ErrDecryption {
			t.Errorf("%x: %x, %v; crypto/rsa: %x, %v", block, got, err, want, wantErr)
		}
	})
}
