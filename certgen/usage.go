package main

import (
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"slices"
	"strings"

	"maclef/blob"
	"maclef/tpmkey"
)

// A usageKind is a value of -usage.
type usageKind struct {
	name string
	ext  x509.ExtKeyUsage
	id   int // in the arc of RFC 5280, section 4.2.1.12
}

var usageKinds = []usageKind{
	{"server", x509.ExtKeyUsageServerAuth, 1},
	{"client", x509.ExtKeyUsageClientAuth, 2},
	{"email", x509.ExtKeyUsageEmailProtection, 4},
	{"code", x509.ExtKeyUsageCodeSigning, 3},
}

// usages are what a certificate is for: RFC 5280, section 4.2.1.12. It is a flag.Value.
type usages []x509.ExtKeyUsage

// Set replaces the list.
func (u *usages) Set(text string) error {
	*u = nil
	for _, name := range strings.Split(text, ",") {
		i := slices.IndexFunc(usageKinds, func(k usageKind) bool { return k.name == strings.Trim(name, " ") })
		if i < 0 {
			return fmt.Errorf("%q is none of server, client, email and code", name)
		}
		if !u.has(usageKinds[i].ext) {
			*u = append(*u, usageKinds[i].ext)
		}
	}
	return nil
}

// String returns the list in the format of Set.
func (u *usages) String() string {
	var names []string
	for _, k := range usageKinds {
		if u.has(k.ext) {
			names = append(names, k.name)
		}
	}
	return strings.Join(names, ",")
}

func (u *usages) has(ext x509.ExtKeyUsage) bool { return slices.Contains(*u, ext) }

// extension returns the extension for a request, for which crypto/x509 has no field.
func (u *usages) extension() (ext pkix.Extension, err error) {
	var ids []asn1.ObjectIdentifier
	for _, k := range usageKinds {
		if u.has(k.ext) {
			ids = append(ids, asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 3, k.id})
		}
	}
	ext.Id = asn1.ObjectIdentifier{2, 5, 29, 37}
	ext.Value, err = asn1.Marshal(ids)
	return ext, err
}

// A keyAbility is what a key can do, as far as a key usage depends on it.
type keyAbility struct {
	decrypts bool // RSA, PKCS#1 v1.5
	agrees   bool // ECDH
}

// abilityOf returns what a key file's key can do.
func abilityOf(file blob.Key) keyAbility {
	public, ok := file.PublicKey().(*rsa.PublicKey)
	decrypts := ok && tpmkey.CheckDecrypt(file, make([]byte, public.Size()), &rsa.PKCS1v15DecryptOptions{}) == nil
	return keyAbility{decrypts: decrypts, agrees: file.CanAgree()}
}

// keyUsage returns the key usage: RFC 5280, section 4.2.1.3. A TLS server's key that decrypts PKCS#1
// v1.5 can also do RSA key exchange in TLS 1.2, and others encrypt e-mail for a key that decrypts or
// agrees on a secret.
func (u *usages) keyUsage(can keyAbility) x509.KeyUsage {
	usage := x509.KeyUsageDigitalSignature
	email := u.has(x509.ExtKeyUsageEmailProtection)
	if can.decrypts && (email || u.has(x509.ExtKeyUsageServerAuth)) {
		usage |= x509.KeyUsageKeyEncipherment
	}
	if can.agrees && email {
		usage |= x509.KeyUsageKeyAgreement
	}
	return usage
}
