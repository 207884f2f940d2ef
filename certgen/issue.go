package main

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"fmt"
	"math/big"
	"net/url"
	"slices"
	"strings"
	"time"

	"maclef/blob"
	"maclef/internal/certfile"
	"maclef/internal/cli"
)

// issue issues a certificate for a request. Everything is checked before the TPM is opened.
func issue(env *cli.Env, o *options, file blob.Key, alg *algorithm, now time.Time) (job, error) {
	req, err := readRequest(env, o)
	if err != nil {
		return nil, err
	}
	ca, err := readAuthority(env, o, file, now)
	if err != nil {
		return nil, err
	}
	if certfile.SameKey(ca.PublicKey, req.PublicKey) {
		return nil, cli.WithHint(fmt.Errorf("%s: this is a request of the CA's own key", nameOf(*o.sign, "standard input")), "a certificate wants a key of its own: keygen makes one")
	}
	if *o.copyNames {
		if err := takeNames(env, o, req); err != nil {
			return nil, err
		}
	}
	if !o.subjectGiven {
		if err := o.nameIssued(); err != nil {
			return nil, err
		}
	}
	template, err := issued(o, ca, req.PublicKey, now)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", nameOf(*o.caCert, "standard input"), err)
	}
	template.SignatureAlgorithm = alg.x509
	return func(key crypto.Signer) (*product, error) {
		der, err := x509.CreateCertificate(rand.Reader, template, ca, req.PublicKey, key)
		if err != nil {
			return nil, err
		}
		return &product{"CERTIFICATE", der, describeIssued(o, ca, template, der)}, nil
	}, nil
}

// nameIssued chooses the subject of an issued certificate: a DNS name, else an e-mail address or URI,
// else none. An address would be taken for a DNS name that the CA may not issue for.
func (o *options) nameIssued() error {
	var cn string
	switch n := o.names; {
	case len(n.names) > 0:
		cn = n.names[0]
	case len(n.emails) > 0:
		cn = n.emails[0]
	case len(n.uris) > 0:
		cn = n.uris[0].String()
	case len(n.addrs) > 0:
		return nil
	}
	return o.nameSubject(cn, cn, "give -subj; -subj / is a subject without a name")
}

// issued returns the template of a certificate for a public key, or an error if the CA may not
// issue it.
func issued(o *options, ca *x509.Certificate, public crypto.PublicKey, now time.Time) (*x509.Certificate, error) {
	for _, use := range *o.usage {
		if err := checkUsage(ca, use); err != nil {
			return nil, err
		}
	}
	if sameName(o.subject.marshal(), ca.RawSubject) {
		return nil, cli.WithHint(errors.New("the certificate would have the CA's own subject, and clients would take it for the CA's"), "give it another -subj")
	}
	begin := now.UTC().Truncate(time.Second).Add(-clockSkew)
	if begin.Before(ca.NotBefore) {
		begin = ca.NotBefore
	}
	end, err := endOf(o, ca, begin)
	if err != nil {
		return nil, err
	}
	template, err := o.template(public, begin, end)
	if err != nil {
		return nil, err
	}
	if template.SerialNumber, err = newSerial(); err != nil {
		return nil, err
	}
	if *o.crlURL != "" {
		template.CRLDistributionPoints = []string{*o.crlURL}
	}
	template.ExtKeyUsage = *o.usage
	template.KeyUsage = o.usage.keyUsage(abilityOfPublic(public))
	return template, checkConstraints(o, ca, template, public)
}

// abilityOfPublic returns what a key can do of which only the public key is known.
func abilityOfPublic(public crypto.PublicKey) keyAbility {
	_, isRSA := public.(*rsa.PublicKey)
	_, isEC := public.(*ecdsa.PublicKey)
	return keyAbility{decrypts: isRSA, agrees: isEC}
}

func checkUsage(ca *x509.Certificate, use x509.ExtKeyUsage) error {
	all := usages(ca.ExtKeyUsage)
	if len(ca.ExtKeyUsage)+len(ca.UnknownExtKeyUsage) == 0 || all.has(x509.ExtKeyUsageAny) || all.has(use) {
		return nil
	}
	err := fmt.Errorf("this CA may not issue certificates for the use %q", (&usages{use}).String())
	if names := all.String(); names != "" {
		return cli.WithHint(err, "it may for -usage "+names)
	}
	return err
}

// endOf returns when a certificate ends: with the CA at the latest. -days may not ask for more.
func endOf(o *options, ca *x509.Certificate, begin time.Time) (time.Time, error) {
	const day = 24 * time.Hour
	end := begin.Add(time.Duration(*o.days) * day)
	if !end.After(ca.NotAfter) {
		return end, nil
	}
	if !o.daysGiven {
		return ca.NotAfter, nil
	}
	err := fmt.Errorf("a certificate of %s would end on %s, after the CA, which ends on %s",
		cli.Counted(*o.days, "day"), end.Format(time.DateOnly), ca.NotAfter.Format(time.DateOnly))
	// An hour less: the user needs time to type it.
	if most := int((ca.NotAfter.Sub(begin) - time.Hour) / day); most > 0 {
		return end, cli.WithHint(err, fmt.Sprintf("-days %d is the most; without -days it ends with the CA at the latest", most))
	}
	return end, cli.WithHint(err, "without -days it ends with the CA; it is time for a new CA")
}

// newSerial returns 128 random bits: clients refuse two certificates of an issuer with one number.
func newSerial() (*big.Int, error) {
	for {
		n, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 128))
		if err != nil || n.Sign() > 0 {
			return n, err
		}
	}
}

// checkConstraints returns an error if the CA's constraints forbid a certificate.
func checkConstraints(o *options, ca, template *x509.Certificate, public crypto.PublicKey) error {
	trial := *template
	trial.DNSNames, trial.EmailAddresses = constrainedNames(o, template)
	err := verifyTrial(ca, &trial, public)
	var invalid x509.CertificateInvalidError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &invalid) && invalid.Detail != "":
		hint := "openssl x509 -noout -ext nameConstraints -in " + nameOf(*o.caCert, "FILE") + " shows the names that it may issue for"
		if len(template.DNSNames) == 0 && len(trial.DNSNames) > 0 {
			hint += "; the common name counts, too, but a certificate for clients alone (-usage client) may have one without a dot"
		}
		return cli.WithHint(fmt.Errorf("this CA may not issue the certificate: %s", invalid.Detail), hint)
	}
	return fmt.Errorf("this CA may not issue the certificate: %w", err)
}

// constrainedNames returns the DNS names and e-mail addresses of a certificate for verifiers that
// also compare the subject: OpenSSL takes its e-mail addresses, and its common name where there is
// no other DNS name, for names of these types. It checks only common names with a dot, but a client
// takes that of a server for a name without one, too, such as localhost.
func constrainedNames(o *options, template *x509.Certificate) (dns, emails []string) {
	emails = append(slices.Clip(template.EmailAddresses), o.subject.values("emailAddress")...)
	if len(template.DNSNames) > 0 {
		return template.DNSNames, emails
	}
	server := o.usage.has(x509.ExtKeyUsageServerAuth)
	return slices.DeleteFunc(o.subject.values("CN"), func(cn string) bool {
		return !server && !strings.Contains(cn, ".") || strings.ContainsFunc(cn, notDNS)
	}), emails
}

// verifyTrial signs a trial certificate with a temporary key in software, and verifies it as a
// client does that trusts the CA. So crypto/x509 itself says what the CA's constraints forbid, and
// the TPM signs nothing.
func verifyTrial(ca, trial *x509.Certificate, public crypto.PublicKey) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	trialCA := *ca // with the temporary key
	trialCA.PublicKey, trialCA.PublicKeyAlgorithm = key.Public(), x509.ECDSA
	der, err := x509.CreateCertificate(rand.Reader, trial, &trialCA, public, key)
	if err != nil {
		return err
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return err
	}
	roots := x509.NewCertPool()
	roots.AddCert(&trialCA)
	_, err = cert.Verify(x509.VerifyOptions{Roots: roots, CurrentTime: trial.NotBefore, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}})
	return err
}

// notDNS reports whether no verifier takes a text with r for a DNS name.
func notDNS(r rune) bool {
	return notLetter(r) && (r < '0' || r > '9') && !strings.ContainsRune("-_.*", r)
}

// checkCRLURL checks the address of a list of revoked certificates: RFC 5280, section 4.2.1.13.
func checkCRLURL(text string) error {
	uri, err := url.Parse(text)
	if err == nil && uri.User != nil {
		return &cli.UsageError{Text: "-crl-url has a user name or a password, which everybody could read in the certificate", Advice: "name an address that needs none"}
	}
	if err == nil && (uri.Scheme != "http" && uri.Scheme != "https" || uri.Host == "" || checkURI(uri) != nil) {
		err = errors.New("not an address")
	}
	if err != nil {
		return &cli.UsageError{Text: fmt.Sprintf("-crl-url %s: it takes the address of a file on a web server", text), Advice: "as in http://www.example.org/ca.crl"}
	}
	return nil
}
