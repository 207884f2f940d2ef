package main

import (
	"crypto/tls"
	"io"
	"net/http"
	"os"
	"os/exec"
	"testing"
)

func TestZZ(t *testing.T) {
	r := newRig(t, "maclef", nil)
	p := r.start()
	for range 57 {
		p.get()
	}
	c := p.client()
	c.Transport.(*http.Transport).TLSClientConfig.ClientSessionCache = tls.NewLRUClientSessionCache(1)
	for range 9 {
		rs, _ := c.Get("https://" + p.addr + "/")
		rs.Body.Close()
		c.CloseIdleConnections()
	}
	ff, _ := exec.LookPath("firefox-esr")
	p.photograph(ff, "/tmp/light.png", "1000,1420", firstRun)
	p.photograph(ff, "/tmp/dark.png", "1000,1420", firstRun+"user_pref(\"ui.systemUsesDarkTheme\", 1);\nuser_pref(\"layout.css.prefers-color-scheme.content-override\", 0);\n")
	p.photograph(ff, "/tmp/phone.png", firstRun+"user_pref(\"layout.css.devPixelsPerPx\", \"2.5\");\n")
	out, _ := exec.Command("curl", "-s", "--cacert", r.cert, "https://"+p.addr+"/").CombinedOutput()
	t.Log(string(out))
	out, _ = exec.Command("curl", "-s", "--cacert", r.cert, "https://"+p.addr+"/status").CombinedOutput()
	t.Log(string(out))
	out, _ = exec.Command("curl", "-s", "--cacert", r.cert, "-H", "Accept: text/html", "https://"+p.addr+"/").CombinedOutput()
	os.WriteFile("/tmp/page.html", out, 0o644)
	t.Log(p.log.String()[len(p.log.String())-1500:])
}
