package blob

import (
	"errors"
	"fmt"

	"maclef/internal/pubarea"
)

// ErrTruncated is wrapped by errors about a key file that ends too early. Their
// texts say which field ended where.
var ErrTruncated = errors.New("truncated")

// ErrDamaged is wrapped by errors about a key file, or a [Key], that
// contradicts the specification or itself. Their texts name the field.
var ErrDamaged = pubarea.ErrDamaged

// ErrUnsupported is wrapped by errors about a key of a TPM 2.0 that is sound, and
// that this project does nothing with. Their texts name what is not supported.
var ErrUnsupported = pubarea.ErrUnsupported

// NotKeyError says that a file holds no key of a TPM, and what it is instead.
type NotKeyError struct {
	What string // with its article, "a certificate"; empty when unknown
	Do   string // what to do instead

	// PrivateKey says that the file is a software key that [Wrap] or [WrapTSS2] takes
	// once it is read, and decrypted where it needs that.
	PrivateKey bool

	// Half says that the file is one of a pair of tpm2-tools, which [ParsePair] reads.
	Half Half
}

// Error gives What and Do in one sentence.
func (e *NotKeyError) Error() string {
	if e.What == "" {
		return "not a TPM key file: " + e.Do
	}
	return e.What + ", not a TPM key: " + e.Do
}

// advise ends an error of Parse with what its reader can do about it.
func advise(err error) error {
	switch {
	case errors.Is(err, ErrTruncated):
		return fmt.Errorf("%w; get a whole copy of the file", err)
	case errors.Is(err, ErrDamaged):
		return fmt.Errorf("%w; get a good copy of the file", err)
	}
	return err
}

// truncated makes an error that wraps ErrTruncated.
func truncated(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{ErrTruncated}, args...)...)
}

// damaged makes an error that wraps ErrDamaged.
func damaged(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{ErrDamaged}, args...)...)
}
