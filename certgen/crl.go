package main

import (
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"fmt"
	"math/big"
	"strings"
	"time"

	"maclef/blob"
	"maclef/internal/cli"
	"maclef/internal/textenc"
)

// maxSerialBits is the length of serial and CRL numbers: 20 octets with the sign. RFC 5280,
// sections 4.1.2.2 and 5.2.3.
const maxSerialBits = 159

// parseCRLNumber parses the decimal number of a list. 47 digits fit into maxSerialBits.
func parseCRLNumber(text string) (*big.Int, bool) {
	if text == "" || len(text) > 47 || strings.Trim(text, "0123456789") != "" {
		return nil, false
	}
	return new(big.Int).SetString(text, 10)
}

// revocationReasons are the reasons of RFC 5280, section 5.3.1, but for removeFromCRL, which is for
// delta CRLs. The reason unspecified is left out of a list.
var revocationReasons = map[string]int{
	"unspecified": 0, "keycompromise": 1, "cacompromise": 2, "affiliationchanged": 3, "superseded": 4,
	"cessationofoperation": 5, "certificatehold": 6, "privilegewithdrawn": 9, "aacompromise": 10,
}

// parseRevoked parses lines SERIAL[,DATE[,REASON]]. A certificate without a date is revoked now.
func parseRevoked(text string, now time.Time) ([]x509.RevocationListEntry, error) {
	var all []x509.RevocationListEntry
	seen := map[string]int{}
	for i, line := range strings.Split(text, "\n") {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		entry, err := parseRevokedLine(line, now)
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", i+1, err)
		}
		serial := entry.SerialNumber.Text(16)
		if first, twice := seen[serial]; twice {
			return nil, fmt.Errorf("line %d: serial number %s is in line %d, too", i+1, serial, first)
		}
		seen[serial] = i + 1
		all = append(all, entry)
	}
	return all, nil
}

func parseRevokedLine(line string, now time.Time) (entry x509.RevocationListEntry, err error) {
	fields := strings.Split(line, ",")
	if len(fields) > 3 || len(line) > 256 { // long ones are not for messages
		return entry, errors.New("more than SERIAL,DATE,REASON")
	}
	for i := range fields {
		fields[i] = strings.TrimSpace(fields[i])
	}
	fields = append(fields, "", "") // date and reason may be missing
	if entry.SerialNumber, err = parseSerial(fields[0]); err != nil {
		return entry, err
	}
	if entry.RevocationTime, err = parseRevocationTime(fields[1], now); err != nil {
		return entry, err
	}
	if fields[2] != "" {
		reason, ok := revocationReasons[strings.ToLower(fields[2])]
		if !ok {
			return entry, fmt.Errorf("%q is no reason to revoke a certificate; keyCompromise is one", fields[2])
		}
		entry.ReasonCode = reason
	}
	return entry, nil
}

// parseSerial parses a serial number as openssl prints it: hexadecimal, with colons or without, after
// serial= or not.
func parseSerial(text string) (*big.Int, error) {
	digits := strings.TrimPrefix(strings.ToLower(text), "serial=")
	digits = strings.ReplaceAll(strings.TrimPrefix(digits, "0x"), ":", "")
	if digits == "" || len(digits) > 100 || strings.Trim(digits, "0123456789abcdef") != "" {
		return nil, fmt.Errorf("%q is no serial number in hexadecimal", text)
	}
	n, _ := new(big.Int).SetString(digits, 16)
	if n.Sign() == 0 || n.BitLen() > maxSerialBits {
		return nil, fmt.Errorf("%q is no serial number: those are above 0 and have at most 20 bytes", text)
	}
	return n, nil
}

// parseRevocationTime parses a day, or a time of RFC 3339. An empty text is now.
func parseRevocationTime(text string, now time.Time) (time.Time, error) {
	if text == "" {
		return now, nil
	}
	for _, layout := range []string{time.DateOnly, time.RFC3339} {
		t, err := time.Parse(layout, text)
		switch {
		case err != nil:
		case t.After(now):
			return t, fmt.Errorf("the date %s is in the future", text)
		default:
			return t, nil
		}
	}
	return time.Time{}, fmt.Errorf("%q is no date such as 2026-11-30 or 2026-11-30T12:00:00Z", text)
}

// revocationList makes a CRL: RFC 5280, section 5.
func revocationList(env *cli.Env, o *options, file blob.Key, alg *algorithm, now time.Time) (job, error) {
	ca, err := readAuthority(env, o, file, now)
	if err != nil {
		return nil, err
	}
	data, err := env.ReadInput(*o.revoked, cli.CertFileLimit, "list of serial numbers")
	if err != nil {
		return nil, err
	}
	now = now.UTC().Truncate(time.Second)
	text, _ := textenc.UTF8(data)
	entries, err := parseRevoked(string(text), now)
	if err != nil {
		return nil, cli.WithHint(fmt.Errorf("%s: %w", nameOf(*o.revoked, "standard input"), err),
			"a line is SERIAL, SERIAL,DATE or SERIAL,DATE,REASON, as in 3f9a06,2026-11-30,keyCompromise")
	}
	template := &x509.RevocationList{
		Number: o.crlNumber, ThisUpdate: now.Add(-clockSkew), NextUpdate: now.AddDate(0, 0, *o.days),
		RevokedCertificateEntries: entries, SignatureAlgorithm: alg.x509,
	}
	what := fmt.Sprintf("list %v of revoked certificates of %s, with %s, valid until %s", o.crlNumber,
		ca.Subject, cli.Counted(len(entries), "certificate"), template.NextUpdate.Format(time.DateOnly))
	return func(key crypto.Signer) (*product, error) {
		der, err := x509.CreateRevocationList(rand.Reader, template, ca, key)
		return &product{"X509 CRL", der, what}, err
	}, nil
}
