package main

import (
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

const browser = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"

func TestPage(t *testing.T) {
	t.Parallel()
	both(t, "maclef", nil, testPage)
}

func testPage(t *testing.T, rig *rig) {
	t.Parallel()
	r := rig.serve(nil)
	r.get(r.client(), "/", browser)
	rsp, body := r.get(r.client(), "/", browser)
	h := rsp.Header
	if got := h.Get("Content-Type"); got != "text/html; charset=utf-8" {
		t.Errorf("Content-Type %q", got)
	}
	mention(t, h.Get("Content-Security-Policy"), "default-src 'none'; style-src 'sha256-", "frame-ancestors 'none'")
	mention(t, body, "A software TPM signed for you", "protects nothing", r.signature, r.tls+", HTTP/2.0",
		"127.0.0.1, ::1", "364 days left", "TPM "+r.family+" IBM", "RSA 2048", "<title>signature 2: ", "signature №&nbsp;2 ",
		`role="img" aria-labelledby="chart-title chart-desc"`, "Ma \\&lt;b\\&gt;clef")
	for _, bad := range []string{"<b>clef", "<script", "ZgotmplZ", " style=", "http://", "no value", r.key, r.cert, r.swtpm.Dir} {
		if strings.Contains(body, bad) {
			t.Errorf("%q is in the page", bad)
		}
	}
	if sheet := styleOf(t, body); sheet != pageCSS {
		t.Error("the style is not the one that the policy allows")
	}
	wellFormed(t, body)
	if n := strings.Count(body, `<rect class="bar"`); n != 1 {
		t.Errorf("%d bars", n)
	}
	if n := strings.Count(body, `<rect class="own"`); n != 1 {
		t.Errorf("%d bars of this connection", n)
	}
}

// Clients learn the kind of TPM, not where on the machine its files are.
func TestWithoutDirectory(t *testing.T) {
	for name, want := range map[string]string{
		"emulator:/home/moi/.local/state/maclef/tpm12": "emulator",
		"emulator2:/home/moi/chip":                     "emulator2",
		"unix:/run/user/1000/sock":                     "unix:sock",
		"tcp:localhost:2321":                           "tcp:localhost:2321",
		"/dev/tpm0":                                    "/dev/tpm0",
	} {
		if got := withoutDirectory(name); got != want {
			t.Errorf("%s: %s", name, got)
		}
	}
	r := newRig(t, "rsa1024", nil).serve(nil)
	for _, path := range []string{"/", "/status"} {
		if _, body := r.get(r.client(), path, "*/*"); strings.Contains(body, r.swtpm.Dir) || !strings.Contains(body, "unix:sock") {
			t.Errorf("%s: %s", path, body)
		}
	}
}

func styleOf(t *testing.T, body string) string {
	t.Helper()
	m := regexp.MustCompile(`(?s)<style>(.*)</style>`).FindStringSubmatch(body)
	if m == nil {
		t.Fatal("no style in the page")
	}
	return m[1]
}

// wellFormed checks that every element is closed where it must be, with the
// eyes of a reader of XML who knows HTML's void elements.
func wellFormed(t *testing.T, body string) {
	t.Helper()
	d := xml.NewDecoder(strings.NewReader(strings.Replace(body, "<!DOCTYPE html>\n", "", 1)))
	d.AutoClose = []string{"meta", "link", "br", "wbr"}
	d.Strict = false
	d.Entity = map[string]string{"nbsp": "\u00a0"}
	var open []string
	for {
		token, err := d.RawToken()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		switch e := token.(type) {
		case xml.StartElement:
			if !slices.Contains(d.AutoClose, e.Name.Local) {
				open = append(open, e.Name.Local)
			}
		case xml.EndElement:
			if len(open) == 0 || open[len(open)-1] != e.Name.Local {
				line, _ := d.InputPos()
				t.Fatalf("line %d: </%s> ends %v", line, e.Name.Local, open)
			}
			open = open[:len(open)-1]
		}
	}
	if len(open) > 0 {
		t.Errorf("not closed: %v", open)
	}
}

func TestOtherRequests(t *testing.T) {
	t.Parallel()
	r := newRig(t, "rsa1024", nil).serve(nil)
	client := r.client()
	for _, row := range []struct {
		method, path, accept string
		status               int
		mediaType, body      string
	}{
		{"GET", "/", "*/*", 200, plainText, "signed for this connection"},
		{"GET", "/", "text/plain", 200, plainText, "signed for this connection"},
		{"GET", "/", "text/html;q=0, */*", 200, plainText, "signed for this connection"},
		{"GET", "/?a=b", browser, 200, "text/html; charset=utf-8", "<h1>"},
		{"HEAD", "/", browser, 200, "text/html; charset=utf-8", ""},
		{"GET", "/favicon.ico", "image/*", 200, "image/svg+xml", "<svg"},
		{"GET", "/autre", browser, 404, plainText, "no such page"},
		{"GET", "/status/", browser, 404, plainText, "no such page"},
		{"POST", "/", browser, 405, plainText, "GET and HEAD"},
		{"OPTIONS", "/nulle/part", browser, 405, plainText, "GET and HEAD"},
	} {
		t.Run(row.method+row.path+row.accept, func(t *testing.T) {
			rsp, body := r.do(client, row.method, row.path, row.accept)
			if rsp.StatusCode != row.status || rsp.Header.Get("Content-Type") != row.mediaType {
				t.Errorf("%s, %s", rsp.Status, rsp.Header.Get("Content-Type"))
			}
			mention(t, body, row.body)
			if row.status == http.StatusMethodNotAllowed && rsp.Header.Get("Allow") != "GET, HEAD" {
				t.Errorf("Allow: %q", rsp.Header.Get("Allow"))
			}
		})
	}
}

func TestLogIsClean(t *testing.T) {
	r := newRig(t, "rsa1024", nil).serve(nil)
	c := r.dial(r.addr)
	fmt.Fprintf(c, "GET /a%%0Ab%%20c\u202e HTTP/1.1\r\nHost: localhost\r\nUser-Agent: x\t\"\u202e%s\r\nConnection: close\r\n\r\n",
		strings.Repeat("y", 1000))
	if _, err := io.ReadAll(c); err != nil {
		t.Fatal(err)
	}
	log := r.log.String()
	for _, raw := range []string{"\u202e", "\t", strings.Repeat("y", 200)} {
		if strings.Contains(log, raw) {
			t.Errorf("%q is in the log", raw)
		}
	}
	if strings.Count(log, "\n") != 1 {
		t.Errorf("one request, and this log: %q", log)
	}
}

func TestChart(t *testing.T) {
	for name, row := range map[string]struct {
		times       []time.Duration
		bars, lines int
		over        int
		top         string
	}{
		"none":        {nil, 0, 0, 0, ""},
		"zero":        {[]time.Duration{0}, 1, 2, 0, ""},
		"one":         {[]time.Duration{2300 * time.Microsecond}, 1, 4, 0, "3 ms"},
		"a slow chip": {[]time.Duration{820 * time.Millisecond, 790 * time.Millisecond}, 2, 6, 0, "1000 ms"},
		"one waited":  {[]time.Duration{2e6, 2e6, 2e6, 2e6, 500e6}, 5, 3, 1, "10 ms"},
	} {
		t.Run(name, func(t *testing.T) {
			stats := newStats()
			for _, took := range row.times {
				stats.signed(took)
			}
			rep := new(report)
			rep.countStats(stats)
			c := newChart(rep)
			over := 0
			for _, b := range c.Bars {
				if b.Over {
					over++
				}
				if b.Height < 0 || b.Y < plotTop || b.X < plotLeft || b.X+b.Width > plotRight {
					t.Errorf("%+v", b)
				}
			}
			if len(c.Bars) != row.bars || over != row.over || c.OwnShown {
				t.Errorf("%+v", c)
			}
			if row.top != "" && c.Lines[len(c.Lines)-1].Label != row.top {
				t.Errorf("%+v", c.Lines)
			}
		})
	}
}

func TestStatsKeepTheLatest(t *testing.T) {
	stats := newStats()
	for i := range 250 {
		stats.signed(time.Duration(i+1) * time.Millisecond)
	}
	_, total, samples := stats.snapshot()
	if total != 250 || len(samples) != history || samples[0].number != 151 || samples[99].number != 250 {
		t.Errorf("%d, %v … %v", total, samples[0], samples[99])
	}
	if got, want := spreadOf(samples), (spread{151e6, 200.5e6, 250e6}); got != want {
		t.Errorf("%v", got)
	}
}
