package main

import (
	"crypto/x509"
	"fmt"
	"maps"
	"slices"
	"strings"

	"maclef/internal/cli"
)

// modeFlags are the flags that not everything that certgen makes has, with the flags of those that
// have them; "" is a self-signed certificate.
var modeFlags = map[string][]string{
	"days":       {"", "ca", "sign", "crl"},
	"subj":       {"", "ca", "csr", "sign"},
	"host":       {"", "ca", "csr", "sign"},
	"san":        {"", "ca", "csr", "sign"},
	"no-host":    {"", "ca", "csr", "sign"},
	"usage":      {"", "ca", "csr", "sign"},
	"permit":     {"ca"},
	"copy-names": {"sign"},
	"crl-url":    {"sign"},
	"ca-cert":    {"sign", "crl"},
	"allow-sha1": {"ca", "sign", "crl"},
	"revoked":    {"crl"},
	"number":     {"crl"},
}

// checkMode refuses two things to make, and flags that belong to another thing.
func (o *options) checkMode(fs *cli.FlagSet) error {
	chosen := map[string]bool{"ca": *o.ca, "csr": *o.csr, "sign": fs.Given("sign"), "crl": *o.crl}
	modes := slices.DeleteFunc([]string{"ca", "csr", "sign", "crl"}, func(name string) bool { return !chosen[name] })
	switch {
	case *o.ca && *o.csr:
		return &cli.UsageError{
			Text:   "-ca and -csr contradict each other",
			Advice: "-ca makes a self-signed certificate; whoever signs a request decides whether it becomes a CA",
		}
	case len(modes) > 1:
		return &cli.UsageError{Text: "-" + modes[0] + " and -" + modes[1] + " contradict each other", Advice: "each makes a file of its own: run certgen twice"}
	case *o.csr && fs.Given("days"):
		return &cli.UsageError{Text: "-days is for certificates", Advice: "whoever signs the request decides how long its certificate is valid"}
	}
	mode := strings.Join(modes, "")
	for _, name := range slices.Sorted(maps.Keys(modeFlags)) {
		if owners := modeFlags[name]; fs.Given(name) && !slices.Contains(owners, mode) {
			if mode != "" {
				return &cli.UsageError{Text: "-" + name + " and -" + mode + " contradict each other", Advice: "leave out -" + name}
			}
			return &cli.UsageError{Text: "-" + name + " needs -" + strings.Join(owners, " or -"), Advice: "certgen -h says what -" + owners[0] + " does"}
		}
	}
	return nil
}

// check refuses values that cannot be.
func (o *options) check(fs *cli.FlagSet) error {
	switch {
	case *o.key.Path == "":
		return &cli.UsageError{Text: "the name of the key file is empty", Advice: "give it with -key, or - for standard input"}
	case fs.Given("sign") && *o.sign == "":
		return &cli.UsageError{Text: "the name of the request's file is empty", Advice: "give it with -sign, or - for standard input"}
	case *o.ca && !fs.Given("subj") && !fs.Given("permit"):
		return &cli.UsageError{Text: "-ca needs a subject", Advice: `give each CA a name of its own: -subj "/O=Example/CN=Example CA"; or give -permit, which also names it`}
	case fs.Given("subj") && len(o.subject.rdns) == 0 && !*o.csr && !o.issues():
		return &cli.UsageError{ // RFC 5280, section 4.1.2.4
			Text:   "-subj has no attribute with a value, but a certificate needs the name of its issuer",
			Advice: `write at least a common name: -subj "/CN=www.example.org"`,
		}
	}
	return nil
}

// checkNames refuses names that contradict each other. Whoever issues a certificate must say for
// which names.
func (o *options) checkNames(fs *cli.FlagSet) error {
	chosen := map[string]bool{"host": fs.Given("host"), "san": fs.Given("san"), "copy-names": *o.copyNames}
	given := slices.DeleteFunc([]string{"host", "san", "copy-names"}, func(name string) bool { return !chosen[name] })
	switch {
	case *o.noHost && len(given) > 0:
		return &cli.UsageError{Text: "-no-host and -" + given[0] + " contradict each other", Advice: "leave out one of them"}
	case o.issues() && len(given) == 0 && !*o.noHost:
		return &cli.UsageError{
			Text:   "-sign needs to know the names of the certificate",
			Advice: "give them with -host or -san, take those of the request with -copy-names, or say -no-host for none",
		}
	}
	return nil
}

// checkCA refuses what a CA cannot do.
func (o *options) checkCA(fs *cli.FlagSet) error {
	signsOthers := *o.ca || o.issues() || *o.crl
	switch {
	case signsOthers && *o.md == "sha1" && !*o.allowSHA1:
		return &cli.UsageError{Text: "-md sha1: clients refuse certificates that a CA signed with SHA-1", Advice: "leave out -md sha1; or, if the key signs nothing else and you mean it, add -allow-sha1"}
	case fs.Given("permit") && (o.usage.has(x509.ExtKeyUsageEmailProtection) || o.usage.has(x509.ExtKeyUsageCodeSigning)):
		return &cli.UsageError{Text: "-permit is for a CA of servers and clients: its names do not limit email and code", Advice: "say -usage server, client or server,client"}
	case fs.Given("permit"):
		return o.permit.checkPermit()
	case fs.Given("crl-url"):
		return checkCRLURL(*o.crlURL)
	case *o.crl && (!fs.Given("revoked") || !fs.Given("number") || !o.daysGiven):
		return &cli.UsageError{
			Text:   "-crl needs -revoked, -number and -days",
			Advice: "as in -revoked FILE -number 7 -days 30: who is revoked, a number higher than the last list's, and when the next list comes",
		}
	case *o.crl:
		var ok bool
		if o.crlNumber, ok = parseCRLNumber(*o.number); !ok {
			return &cli.UsageError{Text: fmt.Sprintf("-number %s: it takes a decimal number of at most 47 digits", *o.number), Advice: "count the lists, or write the time, such as 20261130120000"}
		}
	}
	return nil
}
