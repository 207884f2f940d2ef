package main

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"maclef/internal/certfile"
	"maclef/internal/cli"
	"maclef/internal/roca"
)

// Lengths of RSA keys. Nobody certifies shorter ones any more; longer ones are slow, and an attack.
const (
	minRSABits = 2048
	maxRSABits = 16384
)

// requestLimit is the longest file of a request, in bytes. -copy-names compares each two names.
const requestLimit = 64 << 10

// readRequest reads a certificate request (PKCS #10, RFC 2986), and checks its key and signature.
func readRequest(env *cli.Env, o *options) (*x509.CertificateRequest, error) {
	name := nameOf(*o.sign, "standard input")
	data, err := env.ReadInput(*o.sign, requestLimit, "certificate request")
	if err != nil {
		return nil, err
	}
	req, err := parseRequest(data)
	if err != nil {
		return nil, cli.WithHint(fmt.Errorf("%s: %w", name, err), "certgen -csr and openssl req -new make certificate requests")
	}
	if err := checkPublicKey(req.PublicKey); err != nil {
		return nil, cli.WithHint(fmt.Errorf("%s: %w", name, err), "whoever made this request makes another key, and another request")
	}
	if err := checkRequest(req, *o.allowSHA1); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return req, nil
}

// parseRequest parses the only request of a PEM file, or a DER request.
func parseRequest(data []byte) (*x509.CertificateRequest, error) {
	blocks, other := certfile.Blocks(data, "CERTIFICATE REQUEST", "NEW CERTIFICATE REQUEST")
	switch {
	case len(blocks) > 1:
		return nil, errors.New("two certificate requests in one file")
	case len(blocks) == 0 && other != "":
		return nil, fmt.Errorf("a %q, not a certificate request", other)
	}
	req, err := x509.ParseCertificateRequest(append(blocks, data)[0])
	switch {
	case err == nil, strings.HasPrefix(err.Error(), "x509: "): // about the key
		return req, err
	case len(blocks) == 1:
		return nil, errors.New("a damaged certificate request")
	}
	return nil, errors.New("no certificate request (PEM or DER) in it")
}

// checkPublicKey returns why nobody should trust a key.
func checkPublicKey(public crypto.PublicKey) error {
	switch key := public.(type) {
	case *rsa.PublicKey:
		switch {
		case key.N.BitLen() < minRSABits:
			return fmt.Errorf("an RSA key of %d bits is too short: %d are the least", key.N.BitLen(), minRSABits)
		case key.N.BitLen() > maxRSABits:
			return fmt.Errorf("an RSA key of %d bits is too long: %d are the most", key.N.BitLen(), maxRSABits)
		case key.E < 3 || key.E%2 == 0:
			return fmt.Errorf("no RSA key has the exponent %d: it is odd and at least 3", key.E)
		case roca.Weak(key):
			return errors.New("the key is weak: " + roca.Explanation)
		}
	case *ecdsa.PublicKey, ed25519.PublicKey:
	default:
		return errors.New("a kind of key that certgen does not know: RSA, ECDSA (P-224 to P-521) and Ed25519 are known")
	}
	return nil
}

// checkRequest checks the signature, with which the owner of the key has agreed to the request.
func checkRequest(req *x509.CertificateRequest, allowSHA1 bool) error {
	switch alg := req.SignatureAlgorithm; alg {
	case x509.MD2WithRSA, x509.MD5WithRSA:
		return cli.WithHint(fmt.Errorf("the request is signed with %v, and such a signature can be forged", alg), "make it again with SHA-256")
	case x509.SHA1WithRSA, x509.ECDSAWithSHA1:
		if !allowSHA1 {
			return cli.WithHint(fmt.Errorf("the request is signed with %v, and such a signature can be forged", alg),
				"make it again with SHA-256; or, if its key is one of a TPM 1.2 that signs SHA-1 only, add -allow-sha1")
		}
	case x509.UnknownSignatureAlgorithm:
		return cli.WithHint(errors.New("the request is signed by an algorithm that certgen does not know"), "make it again with SHA-256")
	}
	if err := req.CheckSignature(); err != nil {
		return cli.WithHint(fmt.Errorf("the signature of the request is wrong: it was changed, or another key signed it (%w)", err), "make the request again")
	}
	return nil
}

// copyNames adds the DNS names and addresses of a request, and returns which these are, and which
// other names it has. Nothing else of a request is ever copied: its owner could ask for anything.
func (h *altNames) copyNames(req *x509.CertificateRequest) (copied altNames, left []string, err error) {
	for _, name := range req.DNSNames {
		if err := (sanFlag{&copied}).add("DNS", name); err != nil {
			return copied, nil, err
		}
	}
	for _, ip := range req.IPAddresses {
		if addr, ok := netip.AddrFromSlice(ip); ok {
			copied.addAddr(addr)
		}
	}
	left = append(left, req.EmailAddresses...)
	for _, uri := range req.URIs {
		left = append(left, uri.String())
	}
	for _, name := range copied.order {
		if err := h.addHost(name); err != nil {
			return copied, nil, err
		}
	}
	return copied, left, nil
}

// takeNames is -copy-names: it prints the names that it takes.
func takeNames(env *cli.Env, o *options, req *x509.CertificateRequest) error {
	file := nameOf(*o.sign, "standard input")
	copied, left, err := o.names.copyNames(req)
	const hint = "name them with -host or -san, or say -no-host"
	switch {
	case err != nil:
		return cli.WithHint(fmt.Errorf("%s: its names: %v", file, err), hint)
	case len(copied.order) == 0:
		return cli.WithHint(fmt.Errorf("%s: the request has no DNS names and no addresses", file), hint)
	}
	env.Notef("%s: names of the request: %s", file, strings.Join(copied.order, ", "))
	if len(left) > 0 {
		env.Notef("%s: other names of the request, left out: %s", file, strings.Join(left, ", "))
	}
	return nil
}
