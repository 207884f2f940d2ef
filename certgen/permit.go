package main

import (
	"crypto/x509"
	"fmt"
	"net"
	"net/netip"
	"strings"

	"maclef/internal/cli"
)

// A permitFlag is the flag -permit: the names that a CA may issue for.
type permitFlag struct{ *altNames }

// Set adds names and addresses separated by commas.
func (f permitFlag) Set(text string) error {
	for _, name := range strings.Split(text, ",") {
		name = strings.Trim(name, " ")
		if strings.Contains(name, "*") || strings.HasPrefix(name, ".") {
			return &cli.UsageError{Text: fmt.Sprintf("%q: each name stands for itself alone", name), Advice: "write out the names, as in www.example.org,mail.example.org"}
		}
		if name == "" {
			return &cli.UsageError{Text: `"": an empty name`, Advice: "a CA that may issue for any name has no -permit"}
		}
		if err := f.addHost(name); err != nil {
			return err
		}
	}
	return nil
}

// checkPermit refuses names that cannot be permitted together: to permit example.org and nothing
// else, all names below it are excluded.
func (h *altNames) checkPermit() error {
	for _, above := range h.names {
		for _, below := range h.names {
			if strings.HasSuffix(strings.ToLower(below), "."+strings.ToLower(above)) {
				return &cli.UsageError{
					Text:   fmt.Sprintf("-permit cannot have both %s and %s: a name constraint permits a name with all names below it, or with none", above, below),
					Advice: "make two CAs, with a key each",
				}
			}
		}
	}
	return nil
}

// unused is a name that nobody has (RFC 6761, section 6.4). It is permitted where nothing is to be
// permitted, because a type of names without a constraint is free.
const unused = "unused.invalid"

// constrain makes a CA certificate that issues for exactly the permitted names and addresses: RFC
// 5280, section 4.2.1.10. A permitted DNS name admits the names below it, so those are excluded. Go
// refuses certificates with constraints for directory names, so subjects are free.
func constrain(ca *x509.Certificate, permit *altNames) {
	ca.PermittedDNSDomainsCritical = true // and so is the whole extension
	for _, name := range permit.names {
		name = strings.ToLower(name)
		ca.PermittedDNSDomains = append(ca.PermittedDNSDomains, name)
		ca.ExcludedDNSDomains = append(ca.ExcludedDNSDomains, "."+name)
	}
	if len(permit.names) == 0 {
		ca.PermittedDNSDomains = []string{unused}
	}
	for _, all := range []netip.Prefix{netip.PrefixFrom(netip.IPv4Unspecified(), 0), netip.PrefixFrom(netip.IPv6Unspecified(), 0)} {
		some := false
		for _, addr := range permit.addrs {
			if addr.BitLen() == all.Addr().BitLen() {
				some = true
				ca.PermittedIPRanges = append(ca.PermittedIPRanges, ipNet(netip.PrefixFrom(addr, addr.BitLen())))
			}
		}
		if !some {
			ca.ExcludedIPRanges = append(ca.ExcludedIPRanges, ipNet(all))
		}
	}
	ca.PermittedEmailAddresses = []string{unused}
	ca.PermittedURIDomains = []string{unused}
	ca.MaxPathLen, ca.MaxPathLenZero = 0, true
}

// ipNet returns a prefix for crypto/x509.
func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}
