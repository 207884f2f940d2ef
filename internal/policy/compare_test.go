package policy_test

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-tpm/tpm2"

	"maclef/blob"
	"maclef/internal/tpm20"
)

var update = flag.Bool("update", false, "write testdata/policies.txt anew")

// A sample is a policy with what is known of it, a line of testdata/policies.txt.
type sample struct {
	name     string
	alg      tpm2.TPMAlgID
	commands []blob.PolicyCommand
	want     []string // blob's digest, that of tpm20, the words of the last command
}

func readSamples(t testing.TB) (samples []sample, comment string) {
	t.Helper()
	data, err := os.ReadFile("testdata/policies.txt")
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range strings.Split(strings.TrimSuffix(string(data), "\n"), "\n") {
		if strings.HasPrefix(line, "#") {
			comment += line + "\n"
			continue
		}
		fields := strings.Split(line, "\t")
		alg, err := strconv.ParseUint(fields[1], 16, 16)
		if err != nil {
			t.Fatal(err)
		}
		s := sample{name: fields[0], alg: tpm2.TPMAlgID(alg), want: fields[3:]}
		for _, command := range strings.Fields(fields[2]) {
			code, body, _ := strings.Cut(command, ":")
			n, err := strconv.ParseUint(code, 16, 32)
			if err != nil {
				t.Fatal(err)
			}
			c := blob.PolicyCommand{Code: tpm2.TPMCC(n)}
			if c.Policy, err = hex.DecodeString(body); err != nil {
				t.Fatal(err)
			}
			s.commands = append(s.commands, c)
		}
		samples = append(samples, s)
	}
	return samples, comment
}

func (s *sample) line() string {
	var commands []string
	for _, c := range s.commands {
		commands = append(commands, fmt.Sprintf("%x:%x", uint32(c.Code), c.Policy))
	}
	return strings.Join(append([]string{s.name, fmt.Sprintf("%04x", uint16(s.alg)), strings.Join(commands, " ")}, s.want...), "\t")
}

// inBlob and inTPM20 are the digest by the one engine and the other, or why there is none.
func inBlob(alg tpm2.TPMAlgID, commands []blob.PolicyCommand) string {
	digest, err := blob.PolicyDigest(alg, commands)
	switch {
	case errors.Is(err, blob.ErrUnsupported):
		return "unsupported"
	case errors.Is(err, blob.ErrDamaged), errors.Is(err, blob.ErrTruncated):
		return "damaged"
	case err != nil:
		return "TPM only"
	}
	return hex.EncodeToString(digest)
}

func inTPM20(alg tpm2.TPMAlgID, commands []blob.PolicyCommand) string {
	var list []tpm20.PolicyCommand
	for _, c := range commands {
		list = append(list, tpm20.PolicyCommand{Code: c.Code, Body: c.Policy})
	}
	digest, err := tpm20.PolicyDigest(alg, list...)
	switch {
	case errors.Is(err, tpm20.ErrOnlyTPM):
		return "TPM only"
	case err != nil && strings.Contains(err.Error(), "policy: hash algorithm"):
		return "unsupported"
	case err != nil:
		return "damaged"
	}
	return hex.EncodeToString(digest)
}

// TestEngines has both readers and both digests of policies over what is known of
// policies: the files of other programs, what tests have, and what fuzzing found.
// Where they differ, testdata/policies.txt says so.
func TestEngines(t *testing.T) {
	samples, comment := readSamples(t)
	lines := comment
	for _, s := range samples {
		got := []string{inBlob(s.alg, s.commands), inTPM20(s.alg, s.commands), ""}
		if n := len(s.commands); n > 0 {
			got[2] = s.commands[n-1].Words(s.alg)
		}
		if len(got[0]) > 20 && len(got[1]) > 20 && got[0] != got[1] {
			t.Errorf("%s: digest %s, and %s", s.name, got[0], got[1])
		}
		if fmt.Sprintf("%q", got) != fmt.Sprintf("%q", s.want) && !*update {
			t.Errorf("%s: %q, want %q", s.name, got, s.want)
		}
		s.want = got
		lines += s.line() + "\n"
	}
	if *update {
		if err := os.WriteFile("testdata/policies.txt", []byte(lines), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// TestEnginesOnFiles are the files of other programs as they are.
func TestEnginesOnFiles(t *testing.T) {
	files, err := filepath.Glob("../tpmtest/testdata/tpm2/*.pem")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	policies := 0
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		k, err := blob.Parse(data)
		if err != nil || k.TSS2 == nil || len(k.TSS2.Policy) == 0 {
			continue
		}
		policies++
		area := k.TSS2.Area()
		want := hex.EncodeToString(area.AuthPolicy.Buffer)
		if one, other := inBlob(area.NameAlg, k.TSS2.Policy), inTPM20(area.NameAlg, k.TSS2.Policy); one != want || other != want {
			t.Errorf("%s: %s and %s, want %s", file, one, other, want)
		}
	}
	if policies < 2 {
		t.Errorf("%d files with policies", policies)
	}
}

// TestEnginesOnDamage cuts each policy at each length, and changes each of its bytes: what
// both take has the same digest by both.
func TestEnginesOnDamage(t *testing.T) {
	samples, _ := readSamples(t)
	both, only := 0, map[string]int{}
	for _, s := range samples {
		if len(s.commands) != 1 || len(s.commands[0].Policy) > 400 {
			continue
		}
		body := s.commands[0].Policy
		try := func(changed []byte) {
			commands := []blob.PolicyCommand{{Code: s.commands[0].Code, Policy: changed}}
			one, other := inBlob(s.alg, commands), inTPM20(s.alg, commands)
			switch {
			case one == other:
				both++
			case len(one) > 20 && len(other) > 20:
				t.Errorf("%s with %x: %s and %s", s.name, changed, one, other)
			default:
				only[fmt.Sprintf("%s: blob %.8s, tpm20 %.8s", policyName(s.commands[0].Code), state(one), state(other))]++
			}
		}
		for n := range body {
			try(body[:n])
			for _, b := range []byte{0, 1, 2, 8, 0xff, body[n] + 1, body[n] - 1} {
				changed := bytes.Clone(body)
				changed[n] = b
				try(changed)
			}
		}
		for _, more := range [][]byte{{0}, {0, 0}, {0, 0x10}, binary.BigEndian.AppendUint32(nil, 1)} {
			try(append(bytes.Clone(body), more...))
			try(append(bytes.Clone(more), body...))
		}
	}
	t.Logf("%d alike, %v", both, only)
}

func state(result string) string {
	if len(result) > 20 {
		return "digest"
	}
	return result
}

func policyName(code tpm2.TPMCC) string {
	name, _, _ := strings.Cut((blob.PolicyCommand{Code: code}).Words(tpm2.TPMAlgSHA256), ":")
	return name
}
