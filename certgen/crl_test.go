package main

import (
	"strings"
	"testing"
	"time"
)

func TestBadRevoked(t *testing.T) {
	now := time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)
	for _, row := range []struct{ text, want string }{
		{"0", "above 0"}, {"\n# x\n00:00", "line 3: \"00:00\" is no serial number"}, {",2026-11-30", `"" is no serial number`},
		{strings.Repeat("f", 41), "at most 20 bytes"}, {strings.Repeat("f", 40), "at most 20 bytes"}, {strings.Repeat("0", 200) + "1", "no serial number"},
		{"-1", "hexadecimal"}, {"1 2", "hexadecimal"}, {"1,2,3,4", "more than SERIAL,DATE,REASON"}, {strings.Repeat("x", 300), "line 1: more than SERIAL,DATE,REASON"},
		{"1,30.11.2026", "no date such as"}, {"1,2026-12-01", "in the future"}, {"1,2026-11-30T12:00:01Z", "in the future"},
		{"1,,lost", "no reason"}, {"1,,removeFromCRL", "no reason"}, {"0a\n00:0A", "line 2: serial number a is in line 1, too"},
	} {
		if _, err := parseRevoked(row.text, now); err == nil || !strings.Contains(err.Error(), row.want) {
			t.Errorf("%q: got %v, want %s", row.text, err, row.want)
		}
	}
	all, err := parseRevoked("# x\r\n7"+strings.Repeat("f", 39)+", 2026-11-30T12:00:00Z , CACompromise\r\n\r\n0x01:02\r\nserial=03,2026-11-29,unspecified", now)
	if err != nil || len(all) != 3 || all[0].ReasonCode != 2 || !all[1].RevocationTime.Equal(now) || all[1].SerialNumber.Int64() != 0x102 || all[2].ReasonCode != 0 {
		t.Errorf("%v, %v", all, err)
	}
}

func TestCRLNumber(t *testing.T) {
	for text, ok := range map[string]bool{
		"0": true, "7": true, strings.Repeat("9", 47): true, strings.Repeat("9", 48): false, "": false, "-1": false, "0x7": false, "1.5": false,
	} {
		if n, got := parseCRLNumber(text); got != ok || ok && n.BitLen() > maxSerialBits {
			t.Errorf("%q: %v, %v", text, n, got)
		}
	}
}

func FuzzRevoked(f *testing.F) {
	f.Add("01:02,2026-11-29,keyCompromise\n# x\n3")
	f.Fuzz(func(t *testing.T, text string) {
		all, err := parseRevoked(text, time.Now())
		if err != nil {
			return
		}
		for _, e := range all {
			if e.SerialNumber.Sign() <= 0 || e.SerialNumber.BitLen() > maxSerialBits || e.RevocationTime.IsZero() || e.RevocationTime.After(time.Now()) {
				t.Errorf("%q: %v", text, e)
			}
		}
	})
}
