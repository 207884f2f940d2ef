package main

import (
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"time"

	"maclef/blob"
	"maclef/internal/certfile"
	"maclef/internal/cli"
)

// readAuthority reads the certificate of the CA whose key is in file. It returns an error if the
// key or the time is not the certificate's, or if the certificate does not allow what is to be
// signed.
func readAuthority(env *cli.Env, o *options, file blob.Key, now time.Time) (*x509.Certificate, error) {
	name := nameOf(*o.caCert, "standard input")
	data, err := env.ReadInput(*o.caCert, cli.CertFileLimit, "certificate")
	if errors.Is(err, fs.ErrNotExist) {
		return nil, cli.WithHint(err, "name the CA's certificate with -ca-cert; certgen -ca -out "+name+" makes one")
	}
	if err != nil {
		return nil, err
	}
	certs, err := certfile.Parse(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	first := certs[0].Subject
	certs = slices.DeleteFunc(certs, func(c *x509.Certificate) bool { return !certfile.SameKey(c.PublicKey, file.PublicKey()) })
	if len(certs) == 0 {
		err := fmt.Errorf("%s: this certificate is not one of the key %s; its subject is %q", name, nameOf(*o.key.Path, "standard input"), first)
		return nil, cli.WithHint(err, "-key names the CA's key, and -ca-cert the certificate of that key")
	}
	usage := x509.KeyUsageCertSign
	if *o.crl {
		usage = x509.KeyUsageCRLSign
	}
	for _, ca := range certs { // a renewed one may stand beside the old one
		if err = checkAuthority(ca, usage, now); err == nil {
			return ca, nil
		}
	}
	return nil, cli.WithHint(fmt.Errorf("%s: %w", name, err), "certgen -ca makes a CA certificate for the key")
}

// checkAuthority returns why a certificate is none of a CA that may sign now.
func checkAuthority(ca *x509.Certificate, usage x509.KeyUsage, now time.Time) error {
	switch {
	case !ca.BasicConstraintsValid || !ca.IsCA:
		return errors.New("this is no CA certificate")
	case ca.KeyUsage&usage == 0 && usage == x509.KeyUsageCRLSign:
		return errors.New("this CA certificate is not for signing revocation lists (key usage CRL Sign)")
	case ca.KeyUsage&usage == 0 && ca.KeyUsage != 0:
		return errors.New("this CA certificate is not for signing certificates (key usage Certificate Sign)")
	case len(ca.SubjectKeyId) == 0:
		return errors.New("this CA certificate has no subject key identifier, by which clients find it")
	case now.Before(ca.NotBefore):
		return fmt.Errorf("this CA certificate is not valid before %s; is the clock right?", ca.NotBefore.Format(time.DateTime))
	case !now.Before(ca.NotAfter):
		return fmt.Errorf("this CA certificate has ended on %s", ca.NotAfter.Format(time.DateOnly))
	case len(ca.UnhandledCriticalExtensions) > 0:
		return fmt.Errorf("this CA certificate has a critical extension (%v) that certgen does not know and so cannot obey", ca.UnhandledCriticalExtensions[0])
	}
	return nil
}
