package main

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"maclef/internal/cli"
	"maclef/tpmkey"
)

// An identity is what the server proves to be: a key in a TPM and its certificate; and which
// clients it serves. It does not change; a reload makes another one.
type identity struct {
	key      *servedKey
	files    *files
	keyName  string
	keyText  string // "RSA 2048"
	certName string
	leaf     *x509.Certificate
	config   *tls.Config
	warnings []string // about certificates that are not valid now
}

// A servedKey is a key that handshakes use. Close it when they are over.
type servedKey struct {
	*tpmkey.Key
	status     *tpmkey.Status // when it was loaded
	handshakes sync.WaitGroup
}

// loadKey loads the key.
func loadKey(tpm *tpmkey.TPM, o *options, f *files) (*servedKey, error) {
	key, err := o.keys.Load(tpm, f.key)
	if err != nil {
		return nil, err
	}
	status, err := tpm.Status(context.Background())
	if err != nil {
		return nil, errors.Join(err, key.Close())
	}
	return &servedKey{Key: key, status: status}, nil
}

// newIdentity checks that key and certificates fit. It signs once if that is asked for: so a
// missing secret is asked for at the start, and a wrong one is found there.
func newIdentity(o *options, f *files, key *servedKey, sign bool) (*identity, error) {
	config, err := key.TLSConfigPEM(f.chain)
	if err != nil {
		return nil, withAdvice(err, o)
	}
	cert, err := key.TLSCertificate(f.chain)
	if err != nil {
		return nil, err
	}
	id := &identity{
		key: key, files: f, keyName: *o.key, keyText: keyText(key.Public()), certName: *o.cert,
		leaf: cert.Leaf, config: config,
	}
	if invalid := validity(id.leaf, time.Now()).invalid; invalid != "" {
		id.warnings = append(id.warnings, fmt.Sprintf("the certificate %s %s; clients will refuse it", *o.cert, invalid))
	}
	if o.asksClients() {
		if err := id.askClients(o); err != nil {
			return nil, err
		}
	}
	if sign {
		if err := selfTest(key.Key, cert.SupportedSignatureAlgorithms); err != nil {
			return nil, fmt.Errorf("try the key %s: %w", *o.key, err)
		}
	}
	return id, nil
}

// String names key and TPM in short.
func (id *identity) String() string {
	text := fmt.Sprintf("%s (%s, %s", shortText(id.keyName, 200), id.keyText, id.model())
	if id.software() {
		text += ", software"
	}
	return text + ")"
}

// model returns the name of the TPM: "TPM 1.2 IFX 3.17".
func (id *identity) model() string {
	plain := *id.key.status
	plain.Emulator = false // String says "software" instead
	return plain.String()
}

// software reports whether the TPM is a program: the emulator, or one behind a socket.
func (id *identity) software() bool {
	status := id.key.status
	return status.Emulator || strings.HasPrefix(status.Name, "unix:") || strings.HasPrefix(status.Name, "tcp:")
}

func keyText(public crypto.PublicKey) string {
	switch k := public.(type) {
	case *rsa.PublicKey:
		return fmt.Sprintf("RSA %d", k.N.BitLen())
	case *ecdsa.PublicKey:
		return "ECDSA " + k.Params().Name
	}
	return fmt.Sprintf("%T", public)
}

// lifetime is a certificate's validity in words.
type lifetime struct {
	invalid string // why clients refuse it, empty if they do not
	left    string // "364 days left"
}

func validity(leaf *x509.Certificate, now time.Time) lifetime {
	const day = 24 * time.Hour
	switch {
	case now.Before(leaf.NotBefore):
		invalid := "is valid only from " + leaf.NotBefore.UTC().Format("2006-01-02 15:04 MST")
		return lifetime{invalid, invalid}
	case now.After(leaf.NotAfter):
		invalid := "expired on " + leaf.NotAfter.UTC().Format("2006-01-02 15:04 MST")
		return lifetime{invalid, invalid}
	}
	left := leaf.NotAfter.Sub(now)
	if left < 2*day {
		return lifetime{"", fmt.Sprintf("%d hours left", left/time.Hour)}
	}
	return lifetime{"", fmt.Sprintf("%d days left", left/day)}
}

// selfTest signs once with a scheme of the key that TLS can choose, too.
func selfTest(key *tpmkey.Key, schemes []tls.SignatureScheme) error {
	_, err := key.SignMessage(nil, []byte("tlsdemo"), signOptions(schemes[0]))
	return err
}

// signOptions translates a signature scheme of TLS for crypto.Signer: RFC 8446, section
// 4.2.3. SHA-1 is left out, because package tpmkey serves no key with it.
func signOptions(scheme tls.SignatureScheme) crypto.SignerOpts {
	switch scheme {
	case tls.PSSWithSHA256, tls.PSSWithSHA384, tls.PSSWithSHA512:
		hash := map[tls.SignatureScheme]crypto.Hash{
			tls.PSSWithSHA256: crypto.SHA256, tls.PSSWithSHA384: crypto.SHA384, tls.PSSWithSHA512: crypto.SHA512,
		}[scheme]
		return &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: hash}
	case tls.PKCS1WithSHA384, tls.ECDSAWithP384AndSHA384:
		return crypto.SHA384
	case tls.PKCS1WithSHA512, tls.ECDSAWithP521AndSHA512:
		return crypto.SHA512
	}
	return crypto.SHA256
}

// withAdvice says what to do about a key or a certificate that cannot serve TLS. Some keys
// of a TPM 2.0 had to sign to find out, so their secret or policy may be the reason.
func withAdvice(err error, o *options) error {
	key, file := *o.key, *o.key
	if _, handle, _ := tpmkey.ParseHandle(key); handle || key == "-" {
		file = "maclef"
	}
	switch {
	case errors.Is(err, tpmkey.ErrWrongCertificate):
		return cli.WithHint(fmt.Errorf("%s: %w", *o.cert, err),
			fmt.Sprintf("make one for this key: certgen -key %s -out %s.crt, then tlsdemo -key %s -cert %s.crt", key, file, key, file))
	case errors.Is(err, tpmkey.ErrNotSupported):
		return cli.WithHint(fmt.Errorf("%s: %w", key, err), "make another key: keygen "+file+"2")
	case ofKeyOrTPM(err):
		return fmt.Errorf("try the key %s: %w", key, err)
	}
	return cli.WithHint(fmt.Errorf("%s: %w", *o.cert, err), "certgen makes a certificate")
}
