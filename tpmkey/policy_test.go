package tpmkey_test

import (
	"strings"
	"testing"

	"maclef/tpmkey"
)

func TestParsePolicy(t *testing.T) {
	for _, tt := range []struct{ text, want string }{
		{"pcr:sha256:7", "pcr:sha256:7"},
		{"pcr:7", "pcr:sha256:7"},
		{"pcr:SHA384:11+7", "pcr:sha384:7,11"},
		{"pcr:sha256:0,1,2,3,23", "pcr:sha256:0-3,23"},
		{"pcr:0-7, 11", "pcr:sha256:0-7,11"},
		{"pcr:sha256:7,7", "pcr:sha256:7"},
		{"pcr:sha256:7,11+sha1:4+16", "pcr:sha256:7,11+sha1:4,16"},
		{"pcr:sha1:4,sha256:7,sha1:5", "pcr:sha1:4-5+sha256:7"},
		{"pcr:sha512:0-23", "pcr:sha512:0-23"},
		{"auth", "auth"},
		{"pcr:7 + password", "pcr:sha256:7+auth"},
		{"authvalue+pcr:sha1:7,sha256:8+9", "auth+pcr:sha1:7+sha256:8-9"},
		{"pcr:7+pcr:8", "pcr:sha256:7+pcr:sha256:8"},
		{"command:sign+pcr:0+7+auth", "command:sign+pcr:sha256:0,7+auth"},
		{"command:TPM2_CC_RSA_Decrypt", "command:rsadecrypt"},
		{"command:TPM2_Unseal", "command:unseal"},
		{"command:0x15d", "command:sign"},
		{"command:337", "command:0x151"},
	} {
		p, err := tpmkey.ParsePolicy(tt.text)
		if err != nil {
			t.Errorf("%q: %v", tt.text, err)
			continue
		}
		if p.String() != tt.want {
			t.Errorf("%q is read as %q, want %q", tt.text, p, tt.want)
		}
		if again, err := tpmkey.ParsePolicy(p.String()); err != nil || again.String() != p.String() {
			t.Errorf("%q is not read again: %v, %v", p, again, err)
		}
	}
}

func TestParseBadPolicy(t *testing.T) {
	for _, tt := range []struct{ text, why string }{
		{"", `"" is not a step`},
		{"pcr", `"pcr" is not a step`},
		{"7", `"7" is not a step`},
		{"sha256:7", `"sha256:…" is not a step`},
		{"auth+7", `"7" is not a step`},
		{"pcr:7+pasword", `"pasword" is not a step`},
		{"pcr:7,auth", `"auth" is not the number of a PCR`},
		{"command:", `"" is not a command; it takes a number, sign, rsadecrypt, ecdhzgen, unseal,`},
		{"command:decrypt", `"decrypt" is not a command`},
		{"command:-1", `"-1" is not a command`},
		{"password:hunter2", `"password:…" is not a step`},
		{"pcr:7+auth+password=hunter2", `"password=…" is not a step`},
		{"auth,hunter2", `"auth,…" is not a step`},
		{"pcr:7+password:hunter2", `"password" is not a bank of PCRs`},
		{"pcr:sha256:password:hunter2", `"password:…" is not the number of a PCR`},
		{"command:sign:hunter2", `"sign:…" is not a command`},
		{"pcr:", `"" is not the number of a PCR`},
		{"pcr:sha256:", `"" is not the number of a PCR`},
		{"pcr:sha256:7,,8", `"" is not the number of a PCR`},
		{"pcr:sha256:7,", `"" is not the number of a PCR`},
		{"pcr:sha256:seven", `"seven" is not the number of a PCR`},
		{"pcr:sha256:-1", `"-1" is not the number of a PCR`},
		{"pcr:sha256:+", `"" is not the number of a PCR`},
		{"pcr:sha256:24", "there is no PCR 24: they go from 0 to 23"},
		{"pcr:sha256:0-24", "there is no PCR 24: they go from 0 to 23"},
		{"pcr:sha256:7-3", "the range 7-3 goes backwards"},
		{"pcr:sha256:99999999999999999999", "is not the number of a PCR"},
		{"pcr:md5:7", `"md5" is not a bank of PCRs`},
		{"pcr:sha256:sha1:7", `is not the number of a PCR`},
		{strings.Repeat("auth+", 64) + "auth", "65 steps, more than the 64"},
	} {
		p, err := tpmkey.ParsePolicy(tt.text)
		if err == nil || p != nil || !strings.Contains(err.Error(), tt.why) || !strings.Contains(err.Error(), "pcr:sha256:7,11") || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%q gave %v, %v; want %q", tt.text, p, err, tt.why)
		}
	}
}

func FuzzParsePolicy(f *testing.F) {
	for _, text := range []string{"pcr:sha256:7,11+sha1:4", "pcr:0-23", "pcr:sha3-256:1", "authvalue", "command:sign+pcr:7+auth", "pcr:7+command:0x99"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		p, err := tpmkey.ParsePolicy(text)
		if err != nil {
			return
		}
		again, err := tpmkey.ParsePolicy(p.String())
		if err != nil || again.String() != p.String() {
			t.Errorf("%q is written %q, which is read as %v, %v", text, p, again, err)
		}
	})
}
