package main

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"maclef/internal/cli"
)

// altNames are the subject alternative names of a certificate: RFC 5280, section 4.2.1.6. It is the
// flag.Value of -host, which may be set several times; sanFlag is that of -san.
type altNames struct {
	names  []string
	addrs  []netip.Addr
	emails []string
	uris   []*url.URL
	order  []string // all of them, as given
	isDef  bool     // default list, until the first Set
}

func defaultHosts() *altNames {
	return &altNames{
		names: []string{"localhost"},
		addrs: []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1}), netip.IPv6Loopback()},
		order: []string{"localhost", "127.0.0.1", "::1"},
		isDef: true,
	}
}

// String returns the list in the format of Set.
func (h *altNames) String() string { return strings.Join(h.order, ",") }

// first returns the first name, "" if there is none.
func (h *altNames) first() string {
	if len(h.order) == 0 {
		return ""
	}
	return h.order[0]
}

// netIPs returns the addresses for crypto/x509.
func (h *altNames) netIPs() []net.IP {
	var ips []net.IP
	for _, a := range h.addrs {
		ips = append(ips, a.AsSlice())
	}
	return ips
}

// Set adds hosts separated by commas, without duplicates.
func (h *altNames) Set(text string) error {
	h.begin()
	for _, host := range strings.Split(text, ",") {
		if err := h.addHost(strings.Trim(host, " ")); err != nil {
			return err
		}
	}
	return nil
}

// begin removes the default list.
func (h *altNames) begin() {
	if h.isDef {
		*h = altNames{}
	}
}

// addHost adds a DNS name or an address.
func (h *altNames) addHost(host string) error {
	if addr, err := netip.ParseAddr(host); err == nil {
		if addr.Zone() != "" {
			return fmt.Errorf("%s: an address in a certificate has no zone (%%%s)", host, addr.Zone())
		}
		h.addAddr(addr)
		return nil
	}
	if err := checkName(host); err != nil {
		var usage *cli.UsageError
		if errors.As(err, &usage) {
			return err
		}
		return fmt.Errorf("%q: %w", host, err)
	}
	same := func(name string) bool { return strings.EqualFold(name, host) }
	if !slices.ContainsFunc(h.names, same) {
		h.names = append(h.names, host)
		h.order = append(h.order, host)
	}
	return nil
}

func (h *altNames) addAddr(addr netip.Addr) {
	addr = addr.Unmap()
	if !slices.Contains(h.addrs, addr) {
		h.addrs = append(h.addrs, addr)
		h.order = append(h.order, addr.String())
	}
}

// checkName returns why name is no DNS name for a certificate: RFC 5280, section 4.2.1.6. It
// accepts underscores, which real hosts have. A wildcard must be the whole first label: RFC 9525,
// section 6.3.
func checkName(name string) error {
	switch {
	case name == "":
		return &cli.UsageError{Text: `"": an empty name`, Advice: "-no-host makes one without names"}
	case strings.ContainsFunc(name, func(r rune) bool { return r >= 0x80 }):
		return &cli.UsageError{
			Text:   fmt.Sprintf("%q: write an internationalised name in punycode", name),
			Advice: "each part with letters other than a to z becomes xn--…; idn2 and a browser's address bar show it",
		}
	case strings.Contains(name, "/"):
		return errors.New("write a name or address alone, not a URL or a network")
	case strings.HasPrefix(name, "["):
		return errors.New("write an IPv6 address without brackets and port")
	case strings.Contains(name, ":"):
		return errors.New("neither an IPv6 address nor a name; write a name without its port")
	case strings.HasSuffix(name, "."):
		return errors.New("write it without the dot at its end")
	case len(name) > 253:
		return fmt.Errorf("%d characters, and a DNS name has at most 253", len(name))
	}
	rest, wildcard := strings.CutPrefix(name, "*.")
	labels := strings.Split(rest, ".")
	if wildcard && len(labels) < 2 {
		return errors.New("clients refuse a wildcard right above a top-level name; write it as in *.example.org")
	}
	for _, label := range labels {
		if err := checkLabel(label); err != nil {
			return err
		}
	}
	if strings.Trim(labels[len(labels)-1], "0123456789") == "" {
		return errors.New("neither an IPv4 address nor a name; a name does not end with a number")
	}
	return nil
}

// checkLabel checks one label of a DNS name.
func checkLabel(label string) error {
	switch {
	case label == "":
		return errors.New("an empty part between dots")
	case len(label) > 63:
		return fmt.Errorf("a part of %d characters, and the parts between dots have at most 63", len(label))
	case strings.Contains(label, "*"):
		return errors.New("a * stands for the whole first part only, as in *.example.org")
	case label[0] == '-' || label[len(label)-1] == '-':
		return errors.New("a part between dots begins or ends with -")
	}
	for _, r := range label {
		if notLetter(r) && (r < '0' || r > '9') && r != '-' && r != '_' {
			return fmt.Errorf("a DNS name cannot have the character %q", r)
		}
	}
	return nil
}
