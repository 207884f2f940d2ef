package roca

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"math/big"
	"testing"
)

// product returns the product of the first n primes.
func product(n int) *big.Int {
	m := big.NewInt(1)
	for p := int64(2); n > 0; p++ {
		if big.NewInt(p).ProbablyPrime(0) { // exact below 2^64
			m.Mul(m, big.NewInt(p))
			n--
		}
	}
	return m
}

// weakPrime makes a prime of a length, k·M + (65537^a mod M), as the faulty library did.
func weakPrime(t *testing.T, bits int, m *big.Int) *big.Int {
	t.Helper()
	low := new(big.Int).Lsh(big.NewInt(3), uint(bits-2)) // so that the product of two has twice the bits
	for {
		a, err := rand.Int(rand.Reader, m)
		if err != nil {
			t.Fatal(err)
		}
		k, err := rand.Int(rand.Reader, new(big.Int).Div(new(big.Int).Rsh(low, 2), m))
		if err != nil {
			t.Fatal(err)
		}
		p := new(big.Int).Exp(big.NewInt(generator), a, m)
		p.Add(p, k.Mul(k.Add(k, new(big.Int).Div(low, m)), m))
		if p.BitLen() == bits && p.ProbablyPrime(20) {
			return p
		}
	}
}

// TestWeak has keys of each length that the paper's table 1 has another M for.
func TestWeak(t *testing.T) {
	for _, row := range []struct{ bits, primes int }{{512, 39}, {1024, 71}, {2048, 126}} {
		m := product(row.primes)
		n := new(big.Int).Mul(weakPrime(t, row.bits/2, m), weakPrime(t, row.bits/2, m))
		if n.BitLen() != row.bits || !Weak(&rsa.PublicKey{N: n, E: 65537}) {
			t.Errorf("a weak key of %d bits is not recognised", row.bits)
		}
		if Weak(&rsa.PublicKey{N: n.Add(n, big.NewInt(2)), E: 65537}) {
			t.Errorf("another number of %d bits is called weak", row.bits)
		}
	}
}

// TestOneExponent: a modulus that is some power modulo each prime, and not the same modulo all of
// them, is no weak key.
func TestOneExponent(t *testing.T) {
	m := product(39)
	n := new(big.Int).Exp(big.NewInt(generator), big.NewInt(12345), m)
	if !isPower(n) {
		t.Fatal("a power is not recognised")
	}
	const p = 167 // the order of 65537 modulo it is even, as it is modulo 5
	rest := new(big.Int).Div(m, big.NewInt(p))
	for n.Add(n, rest); ; n.Add(n, rest) { // the same modulo all others
		r := new(big.Int).Mod(n, big.NewInt(p)).Int64()
		if e, ok := logarithm(r, p); ok && (e.value-12345)%2 != 0 {
			break
		}
	}
	if isPower(n) {
		t.Error("powers with different exponents are called one")
	}
}

func TestOthers(t *testing.T) {
	for _, bits := range []int{1024, 2048} {
		for range 3 {
			key, err := rsa.GenerateKey(rand.Reader, bits)
			if err != nil {
				t.Fatal(err)
			}
			if Weak(key.Public()) {
				t.Errorf("an ordinary key of %d bits is called weak", bits)
			}
		}
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if Weak(key.Public()) || Weak(crypto.PublicKey(nil)) {
		t.Error("a key that is not RSA is called weak")
	}
}
