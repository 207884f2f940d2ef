package main

import (
	"net"
	"net/url"
	"strconv"
	"testing"
)

// FuzzAddress: what -accept takes can be given to it again, has a port, and makes
// an address for a browser.
func FuzzAddress(f *testing.F) {
	for _, seed := range []string{"4433", ":4433", "*:4433", "0.0.0.0:0", "[::]:65535", "[::1]:4433", "[fe80::1%eth0]:1", "chez.moi:4433",
		"", "localhost", "::1", "70000", "99999999999999999999", "+1", " 1", "a:b:1", "*", "[]:1", "[*]:2", "[a b]:3"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		var a, again address
		if a.Set(text) != nil {
			if a != (address{}) {
				t.Errorf("%q is refused, and was set: %+v", text, a)
			}
			return
		}
		if _, err := strconv.ParseUint(a.port, 10, 16); err != nil {
			t.Errorf("%q: port %q", text, a.port)
		}
		if err := again.Set(a.String()); err != nil || again != a {
			t.Errorf("%q is %+v, and %q is %+v: %v", text, a, a.String(), again, err)
		}
		where := a.url(&net.TCPAddr{Port: 4433})
		u, err := url.Parse(where)
		if net.ParseIP(a.host) != nil || a.host == "" {
			if err != nil || u.Port() != "4433" || u.Hostname() == "" {
				t.Errorf("%q: %s: %v", text, where, err)
			}
		}
	})
}
