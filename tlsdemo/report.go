package main

import (
	"crypto/sha256"
	"crypto/tls"
	"fmt"
	"math"
	"net/http"
	"path/filepath"
	"strings"
	"time"
)

// A report is the answer to one request: on the page, as text, and as JSON.
type report struct {
	Connection  connection  `json:"connection"`
	Certificate certificate `json:"certificate"`
	Key         keyReport   `json:"key"`
	TPM         tpmReport   `json:"tpm"`
	Handshakes  handshakes  `json:"handshakes"`
	Connections connections `json:"connections"`
	Signatures  signatures  `json:"signatures"`
	Started     time.Time   `json:"started"`

	// Only for the page and the text.
	Own     time.Duration `json:"-"` // what this connection's signature took
	Spread  spread        `json:"-"`
	samples []sample
}

type connection struct {
	TLS       string  `json:"tls"`  // "TLS 1.2"
	HTTP      string  `json:"http"` // "HTTP/2.0"
	Cipher    string  `json:"cipher"`
	Resumed   bool    `json:"resumed"`
	Signature string  `json:"signature_algorithm,omitempty"` // absent if resumed
	ChipMS    float64 `json:"chip_ms,omitempty"`
	Number    int     `json:"signature_number,omitempty"`
	Client    string  `json:"client"`
	Subject   string  `json:"client_subject,omitempty"` // of the client's certificate
}

type certificate struct {
	File      string    `json:"file"`
	Subject   string    `json:"subject"`
	Issuer    string    `json:"issuer"`
	Names     []string  `json:"names"`
	NotBefore time.Time `json:"not_before"`
	NotAfter  time.Time `json:"not_after"`
	SHA256    string    `json:"sha256"` // as browsers show it
	Key       string    `json:"key"`

	selfSigned bool
	lifetime   lifetime
}

type keyReport struct {
	File string `json:"file"`
	Kind string `json:"kind"`
}

type tpmReport struct {
	Text     string `json:"text"` // "TPM 1.2 IFX 3.17"
	Name     string `json:"name"`
	Family   string `json:"family"`
	Vendor   string `json:"vendor,omitempty"`
	Firmware string `json:"firmware,omitempty"`
	Software bool   `json:"software"` // protects nothing
}

type handshakes struct {
	Complete int `json:"complete"`
	Signed   int `json:"signed"`
	Resumed  int `json:"resumed"`
	Failed   int `json:"failed"`     // because of the client
	Unsigned int `json:"not_signed"` // because the key could not sign
	GaveUp   int `json:"gave_up"`    // because the client did not wait for the signature
}

type connections struct {
	Open    int `json:"open"`
	Limit   int `json:"limit"`
	Evicted int `json:"closed_for_room"` // since the start
}

// signatures are the times of the latest ones, in milliseconds, oldest first. Waiting for
// other users of the TPM counts.
type signatures struct {
	Total    int       `json:"total"`
	MedianMS float64   `json:"median_ms"`
	FastMS   float64   `json:"fastest_ms"`
	SlowMS   float64   `json:"slowest_ms"`
	LatestMS []float64 `json:"latest_ms"`
}

func (s *server) report(r *http.Request) *report {
	id := connOfRequest(r).identity
	status := id.key.status
	rep := &report{
		Connection:  connectionOf(r),
		Certificate: id.certificate(time.Now()),
		Key:         keyReport{File: baseName(id.keyName), Kind: id.keyText},
		TPM: tpmReport{
			Text: id.model(), Name: withoutDirectory(status.Name), Family: status.Family,
			Vendor: status.Vendor, Firmware: status.Firmware, Software: id.software(),
		},
		Started: s.stats.started.UTC().Truncate(time.Second),
		Own:     connOfRequest(r).sample.took,
	}
	rep.countStats(s.stats)
	rep.Connections.Open, rep.Connections.Limit = s.limiter.count(), s.limiter.limit
	return rep
}

func (rep *report) countStats(s *stats) {
	t, total, samples := s.snapshot()
	rep.samples, rep.Spread = samples, spreadOf(samples)
	rep.Handshakes = handshakes{t.signed + t.resumed, t.signed, t.resumed, t.failed, t.unsigned, t.gaveUp}
	rep.Connections.Evicted = t.evicted
	rep.Signatures = signatures{
		Total: total, MedianMS: inMS(rep.Spread.Median),
		FastMS: inMS(rep.Spread.Fastest), SlowMS: inMS(rep.Spread.Slowest),
		LatestMS: make([]float64, len(samples)),
	}
	for i, one := range samples {
		rep.Signatures.LatestMS[i] = inMS(one.took)
	}
}

func connOfRequest(r *http.Request) *conn { return r.Context().Value(connKey{}).(*conn) }

func connectionOf(r *http.Request) connection {
	c := connOfRequest(r)
	who := ""
	if certs := r.TLS.PeerCertificates; len(certs) > 0 {
		who = shortText(subject(certs[0]), 300)
	}
	return connection{
		TLS:       tls.VersionName(r.TLS.Version),
		HTTP:      r.Proto,
		Cipher:    tls.CipherSuiteName(r.TLS.CipherSuite),
		Resumed:   r.TLS.DidResume,
		Signature: c.algorithm,
		ChipMS:    inMS(c.sample.took),
		Number:    c.sample.number,
		Client:    r.RemoteAddr,
		Subject:   who,
	}
}

func (id *identity) certificate(now time.Time) certificate {
	leaf := id.leaf
	names := append([]string{}, leaf.DNSNames...)
	for _, ip := range leaf.IPAddresses {
		names = append(names, ip.String())
	}
	return certificate{
		File: baseName(id.certName), Subject: leaf.Subject.String(), Issuer: leaf.Issuer.String(), Names: names,
		NotBefore: leaf.NotBefore.UTC(), NotAfter: leaf.NotAfter.UTC(),
		SHA256: fingerprint(leaf.Raw), Key: id.keyText,
		selfSigned: leaf.CheckSignatureFrom(leaf) == nil || string(leaf.RawIssuer) == string(leaf.RawSubject),
		lifetime:   validity(leaf, now),
	}
}

// baseName is the name of a file for clients. They need not learn where it is.
func baseName(path string) string { return shortText(filepath.Base(path), 200) }

// fingerprint returns the SHA-256 of a certificate as browsers write it.
func fingerprint(der []byte) string {
	sum := sha256.Sum256(der)
	return strings.ReplaceAll(fmt.Sprintf("% X", sum[:]), " ", ":")
}

// inMS returns a duration in milliseconds, rounded to microseconds.
func inMS(d time.Duration) float64 { return math.Round(d.Seconds()*1e6) / 1e3 }

// withoutDirectory shortens the name of a TPM for clients. They need not learn where
// files are on this machine. The name of a device stays.
func withoutDirectory(name string) string {
	kind, path, _ := strings.Cut(name, ":")
	switch kind {
	case "emulator", "emulator2":
		return kind
	case "unix":
		return kind + ":" + filepath.Base(path)
	}
	return name
}
