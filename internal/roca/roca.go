// Package roca recognises RSA keys that a faulty library of Infineon made, in TPMs and smart
// cards until 2017 (ROCA, CVE-2017-15361). Their private keys can be computed from their public
// keys.
//
// Both primes of such a key are k·M + (65537^a mod M). M is the product of the first primes: of 39
// of them for a key of 512 bits, and of more for a longer one. So the modulus is a power of 65537
// modulo M: Nemec and others, "The Return of Coppersmith's Attack", CCS 2017, section 2.
package roca

import (
	"crypto"
	"crypto/rsa"
	"math/big"
)

// Explanation is what is wrong with a weak key, for messages.
const Explanation = "its private key can be computed from the public key (ROCA, CVE-2017-15361: Infineon's TPMs made such RSA keys until 2017)"

// Weak reports whether an RSA key has the fingerprint of the faulty library. It is false for
// other keys. The fingerprint of another key would be like this by chance once in 2^154.
func Weak(public crypto.PublicKey) bool {
	key, ok := public.(*rsa.PublicKey)
	return ok && isPower(key.N)
}

// generator is the number whose powers the faulty library used.
const generator = 65537

// primes are the odd ones of the first 39 primes. The modulus of every affected key length is a
// power of the generator modulo each of them.
var primes = [...]int64{
	3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59, 61, 67, 71, 73, 79, 83, 89, 97,
	101, 103, 107, 109, 113, 127, 131, 137, 139, 149, 151, 157, 163, 167,
}

// A congruence is exponent = value modulo order.
type congruence struct{ value, order int64 }

// isPower reports whether n is a power of the generator modulo the product of the primes: one
// exponent must fit all primes. Congruences have a common solution if each two of them have one.
func isPower(n *big.Int) bool {
	var exponents []congruence
	for _, p := range primes {
		e, ok := logarithm(new(big.Int).Mod(n, big.NewInt(p)).Int64(), p)
		if !ok {
			return false
		}
		for _, other := range exponents {
			if (e.value-other.value)%gcd(e.order, other.order) != 0 {
				return false
			}
		}
		exponents = append(exponents, e)
	}
	return true
}

// logarithm returns the exponents of the generator whose power is residue modulo p.
func logarithm(residue, p int64) (e congruence, ok bool) {
	power := int64(1)
	for {
		if power == residue {
			e.value, ok = e.order, true
		}
		e.order++
		if power = power * generator % p; power == 1 {
			return e, ok
		}
	}
}

func gcd(a, b int64) int64 {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}
