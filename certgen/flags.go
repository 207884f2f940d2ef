package main

import (
	"crypto/x509"
	"fmt"
	"math/big"

	"maclef/internal/cli"
)

// maxDays is a hundred years.
const maxDays = 36500

type options struct {
	key       *cli.KeyFlags
	out, md   *string
	mdGiven   bool
	force     *bool
	days      *int
	daysGiven bool

	ca, csr, crl *bool
	sign         *string // the request's file; "" without -sign
	subject      *subject
	subjectGiven bool
	names        *altNames
	noHost       *bool
	usage        *usages
	usageGiven   bool
	permit       *altNames // with -ca

	caCert               *string // with -sign and -crl
	copyNames, allowSHA1 *bool
	crlURL               *string
	revoked, number      *string  // with -crl
	crlNumber            *big.Int // from number
}

// parse parses the command line and sets the defaults that depend on several flags.
func parse(env *cli.Env, args []string) (*options, error) {
	fs := env.Flags()
	fs.Purpose = "make a certificate or a certificate request for a key in a TPM, or issue certificates with it"
	fs.Notes = notes
	fs.Example = example
	o := define(fs)
	if _, err := fs.Parse(args); err != nil {
		return nil, err
	}
	o.mdGiven, o.daysGiven, o.usageGiven = fs.Given("md"), fs.Given("days"), fs.Given("usage")
	o.subjectGiven = fs.Given("subj")
	for _, check := range []func(*cli.FlagSet) error{o.checkMode, o.check, o.checkNames, o.checkCA} {
		if err := check(fs); err != nil {
			return nil, err
		}
	}
	return o, o.complete(fs)
}

func define(fs *cli.FlagSet) *options {
	o := &options{subject: &subject{}, names: defaultHosts(), usage: &usages{x509.ExtKeyUsageServerAuth}, permit: &altNames{}}
	o.key = fs.Key()
	o.out = fs.String("out", "moncert", "write `FILE`, PEM; the default is moncert.csr with -csr, moncert.crl with -crl (default moncert)")
	o.force = fs.Bool("force", "replace the output file if it exists")
	fs.Var(o.subject, "subj", "subject `NAME`, in openssl's format (default: the first host as CN)")
	fs.Var(o.names, "host", "`NAMES` and addresses, separated by commas; the default is for servers only")
	fs.Var(sanFlag{o.names}, "san", "alternative `NAMES`, separated by commas, as in DNS:example.org,IP:192.0.2.1 or email:moi@example.org,URI:urn:moi")
	o.noHost = fs.Bool("no-host", "no alternative names at all")
	fs.Var(o.usage, "usage", "what the certificate is for: `USES` of server, client, email and code, separated by commas")
	o.days = fs.Int("days", 365, 1, maxDays, "the certificate is valid for `DAYS`; with -crl, the next list comes in DAYS (default 365)")
	o.csr = fs.Bool("csr", "make a certificate request, for a CA to sign")
	o.ca = fs.Bool("ca", "make a CA certificate, which signs others; needs -subj or -permit")
	fs.Var(permitFlag{o.permit}, "permit", "with -ca: the CA's certificates may have these `NAMES` and addresses, and no others")
	o.sign = fs.Input("sign", "", "issue a certificate for the `REQUEST` in this file; needs -host, -san, -copy-names or -no-host")
	o.copyNames = fs.Bool("copy-names", "with -sign: take the DNS names and addresses of the request, and nothing else")
	o.crl = fs.Bool("crl", "make a list of revoked certificates (CRL); needs -revoked, -days and -number")
	o.revoked = fs.Input("revoked", "", "with -crl: `FILE` with a line SERIAL[,DATE,REASON] for each revoked certificate")
	o.number = fs.String("number", "", "with -crl: `NUMBER` of the list; each list has a higher one")
	o.caCert = fs.Input("ca-cert", "monca", "with -sign and -crl: `FILE` with the key's CA certificate")
	o.crlURL = fs.String("crl-url", "", "with -sign: `URL` at which clients find the CA's list of revoked certificates")
	o.md = fs.Choice("md", hashFlags[0], "sign a digest of this `HASH`: sha256, sha384, sha512 or sha1 (default sha256, or the one that the key is limited to)", hashFlags...)
	o.allowSHA1 = fs.Bool("allow-sha1", "with -ca, -sign and -crl: accept requests signed with SHA-1, and keys that sign nothing else")
	return o
}

const example = "certgen -key maclef -out moncert\n" +
	"certgen -subj /C=FR/CN=www.example.org -host www.example.org,example.org\n" +
	"certgen -usage client -subj /CN=client42 -out client.crt\n" +
	"certgen -csr -host www.example.org -out www.csr\n" +
	"certgen -ca -permit www.example.org -out monca\n" +
	"certgen -sign theirs.csr -ca-cert monca -host www.example.org -out www.crt\n" +
	"certgen -crl -revoked revoked.txt -days 30 -number 1 -ca-cert monca"

const notes = `The subject is /TYPE=VALUE/TYPE=VALUE, in the order of the certificate, UTF-8. A \
goes before a / + or \ that belongs to a value; a + joins attributes into one
element. An attribute without a value is left out. TYPE is an OpenSSL name (C, ST,
L, O, OU, CN, emailAddress, ...) or a dotted object identifier.

An RSA key signs PKCS#1 v1.5, an ECC key ECDSA. A key that is limited to a scheme,
such as RSA-PSS, uses that scheme.

A host is an IP address or a DNS name, *.example.org for all names of a domain.
-host and -san may be repeated and add to each other. A CA certificate has no hosts unless they are given.

-permit makes critical name constraints: exactly these names, no names below them, no other addresses, no e-mail addresses and
no URIs. Such a CA makes certificates for servers, for clients or for both (-usage), and no other CAs.

-sign takes nothing from the request but its public key, and with -copy-names its DNS names and addresses. The certificate ends with the
CA's at the latest. -sign refuses names, uses and dates that the CA's certificate does not allow, the CA's own key, weak keys, and signatures with MD5 and SHA-1.

A line of -revoked is SERIAL, SERIAL,DATE or SERIAL,DATE,REASON: the serial number in hexadecimal, as -sign and openssl print it, a date
such as 2026-11-30 (default now), and one of keyCompromise, CACompromise, affiliationChanged, superseded, cessationOfOperation, certificateHold,
privilegeWithdrawn and AACompromise. Empty lines, and those that begin with #, count for nothing.`

// issues reports whether a certificate is issued for somebody's request.
func (o *options) issues() bool { return *o.sign != "" }

// complete sets the defaults that depend on other flags.
func (o *options) complete(fs *cli.FlagSet) error {
	switch {
	case fs.Given("out"):
	case *o.csr:
		*o.out = "moncert.csr"
	case *o.crl:
		*o.out = "moncert.crl"
	}
	named := fs.Given("host") || fs.Given("san")
	if !named && (*o.noHost || *o.ca || o.issues() || !o.usage.has(x509.ExtKeyUsageServerAuth)) {
		*o.names = altNames{}
	}
	switch {
	case o.issues() && *o.noHost && len(o.subject.rdns) == 0:
		return o.nameSubject("", "", "")
	case o.subjectGiven || o.issues() || *o.crl: // -sign first reads the request's names
		return nil
	case *o.ca:
		return o.nameSubject(o.permit.first()+" CA", "-permit "+o.permit.first(), "give -subj")
	}
	return o.nameSubject(o.names.first(), "-host "+o.names.first(), "put a shorter host first, or give -subj")
}

// nameSubject makes cn the subject, because there is no -subj. source is where cn comes from.
func (o *options) nameSubject(cn, source, advice string) error {
	if cn == "" {
		return &cli.UsageError{Text: "the certificate has no name: neither a subject nor alternative names", Advice: "give it a subject, such as -subj /CN=client42, or names with -san"}
	}
	a, err := newAttribute("CN", cn)
	if err != nil {
		return &cli.UsageError{Text: fmt.Sprintf("%s: as the subject: %v", source, err), Advice: advice}
	}
	o.subject.rdns = []rdn{{a}}
	return nil
}
