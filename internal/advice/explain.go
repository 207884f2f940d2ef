package advice

import (
	"errors"
	"slices"
	"strconv"
	"strings"

	"github.com/google/go-tpm/tpm2"

	"maclef/internal/chip12"
	"maclef/internal/chip20"
	"maclef/internal/tpm12"
	"maclef/internal/tpm20"
)

// A Meaning is what a result code of a TPM stands for.
type Meaning struct {
	Code   uint32
	Name   string
	Family string // "1.2", "2.0", or both
	Text   string // its cause, and what to do; empty if only the name is known
	Source string // section of the specification with the name
}

// Explain explains a result code: a number (decimal or 0x…) or a name, also in trousers'
// spelling. ok is false if the code has no name.
//
// The number tells the generation. Every response code of a TPM 2.0 except success has one
// of two bits that no code of a TPM 1.2 has. TPM 2.0 Library Part 2, section 6.6.2
// (Response Code Formats).
func Explain(text string) (m *Meaning, ok bool) {
	if code, ok := parseNumber(text); ok {
		return meaningOf(code)
	}
	name := "TPM_" + strings.TrimPrefix(strings.TrimPrefix(strings.ToUpper(text), "TPM_"), "E_")
	for _, code := range tpm12.ResultCodes() {
		if tpm12.ResultCode(code).Name() == name {
			return meaningOf(code)
		}
	}
	name = "TPM_RC_" + strings.TrimPrefix(strings.TrimPrefix(strings.TrimPrefix(strings.ToUpper(text), "TPM_"), "TPM2_"), "RC_")
	codes := resultCodes20()
	i := slices.IndexFunc(codes, func(code uint32) bool { return name20(code) == name })
	if i < 0 {
		return nil, false
	}
	return meaningOf(codes[i])
}

func parseNumber(text string) (uint32, bool) {
	digits, base := strings.ToUpper(text), 10
	if hex, ok := strings.CutPrefix(digits, "0X"); ok {
		digits, base = hex, 16
	}
	n, err := strconv.ParseUint(digits, base, 32)
	return uint32(n), err == nil
}

func meaningOf(code uint32) (m *Meaning, ok bool) {
	if c := tpm12.ResultCode(code); c.Name() != "" {
		family := "1.2"
		if code == 0 {
			family = "1.2 and 2.0"
		}
		return &Meaning{code, c.Name(), family, join(chip12.Cause(c), advice12[c]), "TPM Main Part 2, section 16"}, true
	}
	err := &tpm20.Error{Code: tpm2.TPMRC(code)}
	return &Meaning{code, name20(code), "2.0", join(chip20.Cause(err), advice20For(err)), "TPM 2.0 Library Part 2, section 6.6"}, name20(code) != ""
}

func join(cause, advice string) string {
	if cause == "" || advice == "" {
		return cause + advice
	}
	return cause + "; " + advice
}

// Bits of TPM 2.0 response codes. TPM 2.0 Library Part 2, section 6.6.2 (Response Code
// Formats).
const (
	rcFmt1 = 0x080
	rcVer1 = 0x100
	rcWarn = 0x900
)

// name20 returns the specification's name of a TPM 2.0 response code, such as
// "TPM_RC_AUTH_FAIL, session 1"; empty if there is none.
func name20(code uint32) string {
	err := &tpm20.Error{Code: tpm2.TPMRC(code)}
	if code&(rcVer1|rcFmt1) == 0 || err.Name() == "" {
		return ""
	}
	return err.Name() + err.About()
}

// resultCodes20 returns the response codes of a TPM 2.0 that have a name, without the
// number of a parameter, handle or session.
func resultCodes20() []uint32 {
	var all []uint32
	for _, group := range []struct{ first, size uint32 }{{rcFmt1, 0x40}, {rcVer1, 0x80}, {rcWarn, 0x80}} {
		for code := group.first; code < group.first+group.size; code++ {
			if name20(code) != "" {
				all = append(all, code)
			}
		}
	}
	return all
}

// advice20For returns what to do about an error of a TPM 2.0; empty if there is nothing to
// say.
func advice20For(err *tpm20.Error) string {
	for code, advice := range advice20 {
		if errors.Is(err, code) {
			return advice
		}
	}
	return ""
}

// codeAdvice returns what to do about the result code in an error.
func codeAdvice(err error) string {
	var code12 tpm12.ResultCode
	var code20 *tpm20.Error
	switch {
	case errors.As(err, &code12):
		return advice12[code12]
	case errors.As(err, &code20):
		return advice20For(code20)
	}
	return ""
}
