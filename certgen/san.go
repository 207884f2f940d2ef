package main

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"maclef/internal/cli"
)

// A sanFlag is the flag -san: alternative names with openssl's words for their types.
type sanFlag struct{ *altNames }

// String returns nothing: -host shows the default.
func (sanFlag) String() string { return "" }

// Set adds names separated by commas, without duplicates.
func (f sanFlag) Set(text string) error {
	f.begin()
	for _, item := range strings.Split(text, ",") {
		kind, name, _ := strings.Cut(strings.Trim(item, " "), ":")
		if err := f.add(kind, name); err != nil {
			return err
		}
	}
	return nil
}

func (f sanFlag) add(kind, name string) error {
	switch strings.ToLower(kind) {
	case "dns":
		if _, err := netip.ParseAddr(name); err == nil {
			return fmt.Errorf("DNS:%s: this is an address; write IP:%s", name, name)
		}
		return f.addHost(name)
	case "ip":
		if _, err := netip.ParseAddr(name); err != nil {
			return fmt.Errorf("IP:%s: neither an IPv4 nor an IPv6 address", name)
		}
		return f.addHost(name)
	case "email":
		return f.addEmail(name)
	case "uri":
		return f.addURI(name)
	}
	return &cli.UsageError{
		Text:   fmt.Sprintf("%q is none of DNS, IP, email and URI", kind),
		Advice: "as in DNS:www.example.org,IP:192.0.2.1,email:moi@example.org,URI:https://example.org/moi; a comma inside a URI is written %2C",
	}
}

// addEmail adds a Mailbox of RFC 5321 in ASCII, as RFC 5280, section 4.2.1.6 wants it.
func (f sanFlag) addEmail(address string) error {
	local, domain, ok := strings.Cut(address, "@")
	if !ok || local == "" || strings.ContainsFunc(local, notAtom) {
		return fmt.Errorf("email:%s: an e-mail address is NAME@DOMAIN, in ASCII, without quotes and spaces", address)
	}
	if err := checkName(domain); err != nil || strings.HasPrefix(domain, "*") {
		return fmt.Errorf("email:%s: %q is no domain for e-mail", address, domain)
	}
	if !slices.Contains(f.emails, address) {
		f.emails = append(f.emails, address)
		f.order = append(f.order, address)
	}
	return nil
}

// notAtom reports whether a dot-atom cannot have r: RFC 5322, section 3.2.3.
func notAtom(r rune) bool {
	return notLetter(r) && (r < '0' || r > '9') && !strings.ContainsRune("!#$%&'*+-/=?^_`{|}~.", r)
}

// addURI adds an absolute URI. A host in it is a name or an address.
func (f sanFlag) addURI(text string) error {
	uri, err := url.Parse(text)
	if err == nil {
		err = checkURI(uri)
	}
	if err != nil {
		var inner *url.Error
		if errors.As(err, &inner) {
			err = inner.Err
		}
		return fmt.Errorf("URI:%s: %w", text, err)
	}
	if !slices.ContainsFunc(f.uris, func(other *url.URL) bool { return other.String() == uri.String() }) {
		f.uris = append(f.uris, uri)
		f.order = append(f.order, uri.String())
	}
	return nil
}

// checkURI returns why a certificate cannot have the URI: RFC 5280, section 4.2.1.6.
func checkURI(uri *url.URL) error {
	if !uri.IsAbs() || uri.Host == "" && uri.Opaque == "" && uri.Path == "" {
		return errors.New("a URI begins with its scheme, as https: and urn: do")
	}
	for _, r := range uri.String() {
		if r <= ' ' || r >= 0x7f {
			return fmt.Errorf("a URI cannot have the character %q", r)
		}
	}
	if uri.Host == "" {
		return nil
	}
	if _, err := netip.ParseAddr(uri.Hostname()); err == nil {
		return nil
	}
	return checkName(uri.Hostname())
}
