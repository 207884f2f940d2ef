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
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-tpm/tpm2"

	"maclef/blob"
	"maclef/internal/policy"
	"maclef/internal/pubarea"
)

var update = flag.Bool("update", false, "write testdata/policies.txt anew")

// A sample is a policy with what is known of it, a line of testdata/policies.txt.
type sample struct {
	name     string
	alg      tpm2.TPMAlgID
	commands []blob.PolicyCommand
	want     []string // its digest, whether it can be run, the words of its last command
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
		for _, c := range strings.Fields(fields[2]) {
			code, body, _ := strings.Cut(c, ":")
			n, err := strconv.ParseUint(code, 16, 32)
			if err != nil {
				t.Fatal(err)
			}
			params, err := hex.DecodeString(body)
			if err != nil {
				t.Fatal(err)
			}
			s.commands = append(s.commands, command(tpm2.TPMCC(n), params...))
		}
		samples = append(samples, s)
	}
	return samples, comment
}

func (s *sample) line() string {
	var commands []string
	for _, c := range s.commands {
		commands = append(commands, fmt.Sprintf("%x:%x", c.Code, c.Policy))
	}
	return strings.Join(append([]string{s.name, fmt.Sprintf("%04x", uint16(s.alg)), strings.Join(commands, " ")}, s.want...), "\t")
}

// digestOf is the digest of a policy, or why there is none.
func digestOf(alg tpm2.TPMAlgID, commands []blob.PolicyCommand) string {
	digest, err := policy.Digest(alg, commands)
	switch {
	case err == nil:
		return hex.EncodeToString(digest)
	case strings.Contains(err.Error(), "policy: hash algorithm"):
		return "unsupported"
	case errors.Is(err, blob.ErrDamaged):
		return "damaged"
	}
	return "TPM only"
}

// runs says whether a policy can be read to be run.
func runs(alg tpm2.TPMAlgID, commands []blob.PolicyCommand) string {
	if _, err := policy.New(alg, nil, commands, nil); err != nil {
		return "refused"
	}
	return "runs"
}

// describe is what a key file with the policy says of its last command.
func describe(alg tpm2.TPMAlgID, commands []blob.PolicyCommand) string {
	size := map[tpm2.TPMAlgID]int{tpm2.TPMAlgSHA1: 20, tpm2.TPMAlgSHA256: 32, tpm2.TPMAlgSHA384: 48, tpm2.TPMAlgSHA512: 64,
		tpm2.TPMAlgSM3256: 32, tpm2.TPMAlgSHA3256: 32}[alg]
	public := binary.BigEndian.AppendUint16([]byte{0, 42, 0, 0x23}, uint16(alg))
	public = slices.Concat(public, make([]byte, 4), sized(make([]byte, size)))
	lines := policy.Describe(&blob.TSS2{Public: public, Policy: commands})
	return lines[len(lines)-1].Value
}

// TestSamples has the digest of what is known of policies: the files of other programs,
// what tests have, and what fuzzing found. Two digest engines have agreed on them.
func TestSamples(t *testing.T) {
	samples, comment := readSamples(t)
	lines := comment
	for _, s := range samples {
		got := []string{digestOf(s.alg, s.commands), runs(s.alg, s.commands), describe(s.alg, s.commands)}
		if !slices.Equal(got, s.want) && !*update {
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

// TestFiles are the files of other programs as they are.
func TestFiles(t *testing.T) {
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
		t2, ok := k.(*blob.TSS2)
		if err != nil || !ok {
			continue
		}
		if len(t2.Policy) == 0 {
			if got := policy.Describe(t2); !slices.Equal(got, []policy.Line{{Name: "policy", Value: "none"}}) {
				t.Errorf("%s: %q", file, got)
			}
			continue
		}
		policies++
		area := pubarea.TPMT(t2.Public)
		want := hex.EncodeToString(area.AuthPolicy.Buffer)
		if got := digestOf(area.NameAlg, t2.Policy); got != want {
			t.Errorf("%s: %s, want %s", file, got, want)
		}
		p, err := policy.New(area.NameAlg, area.AuthPolicy.Buffer, t2.Policy, t2.AuthPolicy)
		if err != nil || p.Check() != nil {
			t.Errorf("%s: %v", file, err)
		}
	}
	if policies != 2 {
		t.Errorf("%d files with policies", policies)
	}
}

// TestDamagedSamples cuts each policy, and adds to it: what can be run has a digest, or
// one that the TPM knows, and what cannot be run has none.
func TestDamagedSamples(t *testing.T) {
	samples, _ := readSamples(t)
	for _, s := range samples {
		if len(s.commands) != 1 {
			continue
		}
		body := append(bytes.Clone(s.commands[0].Policy), 0)
		for n := range len(body) + 1 {
			cut := []blob.PolicyCommand{{Code: s.commands[0].Code, Policy: body[:n]}}
			digest, words := digestOf(s.alg, cut), describe(s.alg, cut)
			if runs(s.alg, cut) == "refused" && len(digest) > len("unsupported") {
				t.Errorf("%s, %d bytes: digest %s, and it cannot be run", s.name, n, digest)
			}
			if digest == "damaged" && !strings.Contains(words, fmt.Sprintf(": %d bytes that are invalid (", n)) {
				t.Errorf("%s, %d bytes: %s", s.name, n, words)
			}
			// What has another length is another command, but for operands of any length.
			if timer := tpm2.TPMCC(cut[0].Code) == tpm2.TPMCCPolicyCounterTimer && n > 4; len(s.want[0]) > len("unsupported") && n != len(body)-1 && digest != "damaged" && !timer {
				t.Errorf("%s, %d of %d bytes: %s", s.name, n, len(body)-1, digest)
			}
		}
	}
}
