package cli

import (
	"crypto/sha1"
	"encoding/hex"
	"strconv"
	"strings"
)

// A form is a way to give a secret on the command line.
type form int

const (
	formWellKnown form = iota // TCG's 20 zero bytes
	formPrompt                // asked on the terminal
	formPopup                 // asked in a window; no spelling, see UsePopup
	formPass                  // in the argument itself
	formEnv                   // in an environment variable
	formFile                  // a line of a file
	formFD                    // a line of an inherited file descriptor
	formStdin                 // a line of standard input
	formSHA1                  // the digest itself
)

// A secretSpec is a parsed SECRET: where a secret comes from, not the secret,
// but for pass: and sha1:.
type secretSpec struct {
	form   form
	utf16  bool // hash the text as UTF-16LE
	arg    string
	fd     int
	digest [sha1.Size]byte
}

// maxFD bounds fd:N; no system opens more by default.
const maxFD = 1 << 20

// secretUsage explains SECRET in usage texts.
const secretUsage = `SECRET is one of
  wellknown   the well-known secret, 20 zero bytes; TPM 2.0: the empty one
  prompt      asked on the terminal, without echo
  pass:TEXT   TEXT itself (others may see it in the process list)
  env:VAR     the value of an environment variable, which may be empty
  file:PATH   the first line of a file, without its line end
  fd:N        the next line of an inherited file descriptor
  stdin       the next line of standard input
  sha1:HEX    the 20 bytes themselves, as 40 hexadecimal digits (TPM 1.2)
utf16: in front of a text (utf16:prompt, utf16:pass:TEXT, ...) hashes it as
UTF-16LE: secrets of a TPM 1.2 set by tpm-tools -u or in a pop-up window. Flags
that name the same file, descriptor or stdin take successive lines, as they
stand on the command line.
`

// parseSecretSpec reads a SECRET. Its error is a [UsageError] that does not
// repeat the text: it may be a password.
func parseSecretSpec(text string) (secretSpec, error) {
	rest, wide := strings.CutPrefix(text, "utf16:")
	kind, arg, hasArg := strings.Cut(rest, ":")
	spec := secretSpec{utf16: wide, arg: arg}
	switch {
	case kind == "wellknown" && !hasArg:
		spec.form = formWellKnown
	case kind == "prompt" && !hasArg:
		spec.form = formPrompt
	case kind == "stdin" && !hasArg:
		spec.form = formStdin
	case kind == "pass" && hasArg:
		spec.form = formPass
	case kind == "env" && hasArg:
		spec.form = formEnv
	case kind == "file" && hasArg:
		spec.form = formFile
	case kind == "fd" && hasArg:
		spec.form = formFD
	case kind == "sha1" && hasArg:
		spec.form = formSHA1
	default:
		return secretSpec{}, &UsageError{
			Text:   "not a way to give a secret (the text is not repeated here)",
			Advice: "a password itself is written pass:TEXT; other ways are prompt, env:VAR, file:PATH, fd:N, stdin, sha1:HEX, wellknown",
		}
	}
	if err := spec.check(); err != nil {
		return secretSpec{}, err
	}
	return spec, nil
}

// check reads the argument of the forms that have one with a shape.
func (s *secretSpec) check() error {
	switch {
	case s.utf16 && s.form == formWellKnown:
		return Usagef("utf16: goes with a text, and the well-known secret is 20 zero bytes: write wellknown")
	case s.utf16 && s.form == formSHA1:
		return Usagef("utf16: goes with a text, and sha1: is a digest already")
	case s.form == formEnv && (s.arg == "" || strings.ContainsAny(s.arg, "=\x00")):
		return Usagef("env: needs the name of an environment variable")
	case s.form == formFile && s.arg == "":
		return Usagef("file: needs the path of a file")
	case len(s.arg) > maxSecret && s.form == formPass:
		return Usagef("pass: is longer than %d bytes", maxSecret)
	}
	if s.form == formFD {
		n, err := strconv.ParseUint(s.arg, 10, 31)
		if err != nil || n > maxFD {
			return Usagef("fd: needs the number of a file descriptor, as in fd:3")
		}
		s.fd = int(n)
		if n == 0 {
			s.form = formStdin
		}
	}
	if s.form == formSHA1 {
		n, err := hex.Decode(s.digest[:], []byte(s.arg[:min(len(s.arg), 2*sha1.Size)]))
		if err != nil || n != sha1.Size || len(s.arg) != 2*sha1.Size {
			return Usagef("sha1: needs 40 hexadecimal digits")
		}
		s.arg = ""
	}
	return nil
}

// isLine reports whether the secret is a line of something that other flags can
// name too.
func (s *secretSpec) isLine() bool {
	return s.form == formFile || s.form == formFD || s.form == formStdin
}

// source names where a line comes from; equal sources share their lines.
func (s *secretSpec) source() string {
	switch s.form {
	case formStdin:
		return "standard input"
	case formFD:
		return "file descriptor " + strconv.Itoa(s.fd)
	case formFile:
		return "file " + s.arg
	}
	return ""
}
