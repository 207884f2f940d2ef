package main

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"image"
	"image/png"
	"maclef/internal/tpmtest"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// firstRun turns off what a new profile of Firefox shows and fetches.
const firstRun = `user_pref("datareporting.policy.dataSubmissionEnabled", false);
user_pref("datareporting.healthreport.uploadEnabled", false);
user_pref("toolkit.telemetry.reportingpolicy.firstRun", false);
user_pref("browser.aboutwelcome.enabled", false);
user_pref("browser.preonboarding.enabled", false);
user_pref("termsofuse.bypassNotification", true);
user_pref("startup.homepage_welcome_url", "");
user_pref("browser.startup.homepage_override.mstone", "ignore");
user_pref("browser.shell.checkDefaultBrowser", false);
user_pref("app.normandy.enabled", false);
user_pref("network.captive-portal-service.enabled", false);
user_pref("network.connectivity-service.enabled", false);
`

// TestFirefox opens the page as a person does who has clicked through the
// warning about a self-signed certificate. The pictures of the page are kept
// where $TLSDEMO_SCREENSHOT says, FILE.png, and in FILE-tpm20.png.
func TestFirefox(t *testing.T) {
	tpmtest.Long(t, "it starts Firefox")
	firefox, err := exec.LookPath("firefox-esr") // Debian's
	if err != nil {
		firefox, err = exec.LookPath("firefox") // Ubuntu's
	}
	if err != nil {
		t.Fatalf("this test needs Firefox: run make test, which installs it (%v)", err)
	}
	both(t, "maclef", nil, func(t *testing.T, r *rig) { r.testFirefox(firefox) })
}

func (r *rig) testFirefox(firefox string) {
	t := r.t
	p := r.start("-accept", tutorialAddress())
	for range 12 { // something to draw
		p.get()
	}
	picture := os.Getenv("TLSDEMO_SCREENSHOT")
	if picture == "" {
		picture = filepath.Join(t.TempDir(), "page.png")
	}
	if r.family == "2.0" {
		picture = strings.TrimSuffix(picture, ".png") + "-tpm20.png"
	}
	p.photograph(firefox, picture, "1000,1420", firstRun)
	log := p.log.await(t, "Firefox/")
	line := regexp.MustCompile(`(?m)^.* GET / 200 ` + r.tls + ` ` + r.cipher + `\S+ ` + strings.TrimSuffix(r.signature, "256") + `\d+ .* "Mozilla/5\.0 [^"]*Firefox/[^"]*"$`)
	if !line.MatchString(log) {
		t.Errorf("Firefox did not get the page\n%s", log)
	}
	checkPicture(t, picture)
}

// tutorialAddress is port 4433, as in the README, unless somebody has it.
func tutorialAddress() string {
	const address = "localhost:4433"
	ln, err := net.Listen("tcp", address)
	if err != nil {
		return "localhost:0"
	}
	ln.Close()
	return address
}

// photograph has Firefox write a picture of the page in a window of size
// "WIDTH,HEIGHT".
func (p *process) photograph(firefox, picture, size, prefs string) {
	t := p.t
	t.Helper()
	os.Remove(picture)
	profile := newProfile(t, p.addr, p.cert, prefs)
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, firefox, "--headless", "--no-remote", "--profile", profile,
		"--window-size", size, "--screenshot", picture, "https://"+p.addr+"/")
	cmd.Env = append(os.Environ(), "HOME="+profile, "MOZ_CRASHREPORTER_DISABLE=1")
	cmd.WaitDelay = time.Second
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("firefox: %v (%v)\n%s\ntlsdemo's log:\n%s", err, ctx.Err(), out, p.log)
	}
}

// newProfile makes a profile with an exception for the certificate, as Firefox
// itself writes it.
func newProfile(t *testing.T, addr, certPath, prefs string) string {
	t.Helper()
	profile, err := os.MkdirTemp("", "tlsdemo-firefox")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(profile) }) // unlike t.TempDir, where a child of Firefox still writes
	data, err := os.ReadFile(certPath)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(data)
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	exception := fmt.Sprintf("%s:%s:\tOID.2.16.840.1.101.3.4.2.1\t%s\t\n", host, port, fingerprint(cert.Raw))
	for name, text := range map[string]string{"cert_override.txt": exception, "user.js": prefs} {
		if err := os.WriteFile(filepath.Join(profile, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return profile
}

// checkPicture makes sure that there is something to see: a chart, and text.
func checkPicture(t *testing.T, path string) {
	t.Helper()
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	shot, err := png.Decode(file)
	if err != nil {
		t.Fatal(err)
	}
	colours := coloursOf(shot)
	const fewest = 20
	if b := shot.Bounds(); len(colours) < fewest || b.Dx() < 500 || b.Dy() < 500 {
		t.Errorf("a picture of %v with %d colours", b, len(colours))
	}
	// The bars of the chart, light or dark: page.css has them.
	bars := 0
	for _, hex := range regexp.MustCompile(`--bar: #([0-9a-f]{6})`).FindAllStringSubmatch(pageCSS, -1) {
		bars += colours[strings.ToLower(hex[1])]
	}
	if bars < 500 {
		t.Errorf("%d pixels have the colour of the bars", bars)
	}
}

// coloursOf counts the pixels of each colour, written as in CSS.
func coloursOf(shot image.Image) map[string]int {
	colours := make(map[string]int)
	b := shot.Bounds()
	for y := b.Min.Y; y < b.Max.Y; y++ {
		for x := b.Min.X; x < b.Max.X; x++ {
			r, g, blue, _ := shot.At(x, y).RGBA()
			colours[fmt.Sprintf("%02x%02x%02x", r>>8, g>>8, blue>>8)]++
		}
	}
	return colours
}
