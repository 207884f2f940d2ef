package main

import (
	"fmt"

	"maclef/internal/cli"
)

// maxDays is a hundred years.
const maxDays = 36500

type options struct {
	key            *cli.KeyFlags
	out, md        *string
	mdGiven        bool
	force, ca, csr *bool
	days           *int
	subject        *subject
	hosts          *hosts
}

// parse parses the command line and sets the defaults that depend on several flags.
func parse(env *cli.Env, args []string) (*options, error) {
	fs := env.Flags()
	fs.Purpose = "make a self-signed certificate for a key in a TPM, or a certificate request"
	fs.Notes = notes
	fs.Example = "certgen -key maclef -out moncert\n" +
		"certgen -subj /C=FR/CN=www.example.org -host www.example.org,example.org\n" +
		"certgen -csr -host www.example.org -out www.csr"
	o := &options{subject: &subject{}, hosts: defaultHosts()}
	o.key = fs.Key()
	o.out = fs.String("out", "moncert", "write `FILE`, PEM; with -csr the default is moncert.csr")
	o.force = fs.Bool("force", "replace the output file if it exists")
	fs.Var(o.subject, "subj", "subject `NAME`, in openssl's format (default: the first host as CN)")
	fs.Var(o.hosts, "host", "`NAMES` and addresses, separated by commas")
	o.days = fs.Int("days", 365, 1, maxDays, "the certificate is valid for `DAYS`")
	o.ca = fs.Bool("ca", "make a CA certificate, which signs others; needs -subj")
	o.csr = fs.Bool("csr", "make a certificate request, for a CA to sign")
	o.md = fs.Choice("md", hashFlags[0], "sign a digest of this `HASH`: sha256, sha384, sha512 or sha1 (default sha256, or the one that the key is limited to)", hashFlags...)
	if _, err := fs.Parse(args); err != nil {
		return nil, err
	}
	o.mdGiven = fs.Given("md")
	if err := o.check(fs); err != nil {
		return nil, err
	}
	if *o.key.Path != "-" {
		o.key.Secret.Label = "Secret of the key " + *o.key.Path
	}
	return o, o.complete(fs)
}

const notes = `The subject is /TYPE=VALUE/TYPE=VALUE, in the order of the certificate, UTF-8. A \
goes before a / + or \ that belongs to a value; a + joins attributes into one
element. An attribute without a value is left out. TYPE is an OpenSSL name (C, ST,
L, O, OU, CN, emailAddress, ...) or a dotted object identifier.

An RSA key signs PKCS#1 v1.5, an ECC key ECDSA. A key that is limited to a scheme,
such as RSA-PSS, uses that scheme.

A host is an IP address or a DNS name, *.example.org for all names of a domain.
-host may be repeated. A CA certificate has no hosts unless they are given.`

// check refuses flags that contradict each other.
func (o *options) check(fs *cli.FlagSet) error {
	switch {
	case *o.key.Path == "":
		return &cli.UsageError{Text: "the name of the key file is empty", Advice: "give it with -key, or - for standard input"}
	case *o.ca && *o.csr:
		return &cli.UsageError{
			Text:   "-ca and -csr contradict each other",
			Advice: "-ca makes a self-signed certificate; whoever signs a request decides whether it becomes a CA",
		}
	case *o.csr && fs.Given("days"):
		return &cli.UsageError{Text: "-days is for certificates", Advice: "whoever signs the request decides how long its certificate is valid"}
	case *o.ca && !fs.Given("subj"):
		return &cli.UsageError{Text: "-ca needs a subject", Advice: `give each CA a name of its own: -subj "/O=Example/CN=Example CA"`}
	case fs.Given("subj") && len(o.subject.rdns) == 0 && !*o.csr:
		return &cli.UsageError{ // RFC 5280, section 4.1.2.4
			Text:   "-subj has no attribute with a value, but a certificate needs the name of its issuer",
			Advice: `write at least a common name: -subj "/CN=www.example.org"`,
		}
	}
	return nil
}

// complete sets the defaults that depend on other flags.
func (o *options) complete(fs *cli.FlagSet) error {
	if *o.csr && !fs.Given("out") {
		*o.out = "moncert.csr"
	}
	if *o.ca && !fs.Given("host") {
		o.hosts = &hosts{}
	}
	if fs.Given("subj") {
		return nil
	}
	cn, err := newAttribute("CN", o.hosts.first())
	if err != nil {
		return &cli.UsageError{
			Text:   fmt.Sprintf("-host %s: as the subject: %v", o.hosts.first(), err),
			Advice: "put a shorter host first, or give -subj",
		}
	}
	o.subject.rdns = []rdn{{cn}}
	return nil
}
