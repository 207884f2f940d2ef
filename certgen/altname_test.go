package main

import (
	"crypto/x509"
	"strings"
	"testing"
)

func TestHosts(t *testing.T) {
	for _, row := range []struct {
		name string
		set  []string
		want string
	}{
		{"default", nil, "localhost,127.0.0.1,::1"},
		{"one", []string{"www.example.org"}, "www.example.org"},
		{"order and kinds", []string{"192.0.2.1,b.example", "a.example,2001:db8::1"}, "192.0.2.1,b.example,a.example,2001:db8::1"},
		{"twice", []string{"a.example,A.Example", "a.example,::1,0:0::1"}, "a.example,::1"},
		{"IPv4 in IPv6", []string{"::ffff:192.0.2.1,192.0.2.1"}, "192.0.2.1"},
		{"spaces", []string{"a.example, b.example"}, "a.example,b.example"},
		{"wildcard", []string{"*.example.org"}, "*.example.org"},
		{"punycode", []string{"xn--t-9caa.example"}, "xn--t-9caa.example"},
		{"underscore and digits", []string{"_x.1.2.org,3com.com,a-b"}, "_x.1.2.org,3com.com,a-b"},
		{"longest label", []string{strings.Repeat("a", 63) + ".org"}, strings.Repeat("a", 63) + ".org"},
	} {
		t.Run(row.name, func(t *testing.T) {
			h := defaultHosts()
			for _, text := range row.set {
				if err := h.Set(text); err != nil {
					t.Fatal(err)
				}
			}
			if got := h.String(); got != row.want {
				t.Errorf("got %s, want %s", got, row.want)
			}
			if n := len(h.names) + len(h.netIPs()); n != len(h.order) {
				t.Errorf("%d of %d hosts reach the certificate", n, len(h.order))
			}
		})
	}
}

func TestBadHosts(t *testing.T) {
	for _, row := range []struct{ name, text, want string }{
		{"empty", "", "empty name"},
		{"empty between commas", "a,,b", "empty name"},
		{"comma at the end", "a,", "empty name"},
		{"blank", "a, ,b", "empty name"},
		{"space", "a b", "' '"},
		{"other letters", "é.example", "punycode"},
		{"not UTF-8", "\xff.example", "punycode"},
		{"URL", "https://a.example/", "not a URL"},
		{"network", "192.0.2.0/24", "not a URL or a network"},
		{"port", "a.example:443", "without its port"},
		{"address and port", "192.0.2.1:443", "without its port"},
		{"brackets", "[::1]:443", "without brackets"},
		{"zone", "fe80::1%eth0", "has no zone"},
		{"bad IPv6", "1::2::3", "neither an IPv6 address"},
		{"bad IPv4", "1.2.3", "neither an IPv4 address"},
		{"high IPv4", "1.2.3.256", "neither an IPv4 address"},
		{"number", "80", "neither an IPv4 address"},
		{"dot at the end", "a.example.", "without the dot"},
		{"dot at the beginning", ".example", "empty part"},
		{"two dots", "a..example", "empty part"},
		{"hyphen first", "-a.example", "begins or ends with -"},
		{"hyphen last", "a-.example", "begins or ends with -"},
		{"long label", strings.Repeat("a", 64), "at most 63"},
		{"long name", strings.Repeat("a.", 127) + "org", "at most 253"},
		{"star alone", "*", "whole first part"},
		{"star above a top level", "*.org", "top-level"},
		{"star in a part", "w*.example.org", "whole first part"},
		{"star later", "a.*.org", "whole first part"},
		{"two stars", "*.*.org", "whole first part"},
		{"star and nothing", "*.", "without the dot"},
		{"control character", "a\x00b", `'\x00'`},
	} {
		t.Run(row.name, func(t *testing.T) {
			err := defaultHosts().Set(row.text)
			if err == nil || !strings.Contains(err.Error(), row.want) {
				t.Errorf("got %v, want %s", err, row.want)
			}
		})
	}
}

// FuzzHosts: what is accepted is what Go's verifier matches, and its own text
// stands for the same.
func FuzzHosts(f *testing.F) {
	for _, seed := range []string{
		"localhost,127.0.0.1,::1", "*.example.org", "a, b", "::ffff:1.2.3.4", "[::1]", "1.2.3", "xn--x", "a_b", "fe80::1%1",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		h := defaultHosts()
		if h.Set(text) != nil {
			return
		}
		cert := &x509.Certificate{DNSNames: h.names, IPAddresses: h.netIPs()}
		for _, host := range h.order {
			if rest, ok := strings.CutPrefix(host, "*."); ok {
				host = "any." + rest
			}
			if len(host) > 253 {
				continue
			}
			if err := cert.VerifyHostname(host); err != nil {
				t.Fatalf("%q: %v", text, err)
			}
		}
		again := defaultHosts()
		if err := again.Set(h.String()); err != nil || again.String() != h.String() {
			t.Fatalf("%q: again %q: %v", text, h.String(), err)
		}
	})
}
