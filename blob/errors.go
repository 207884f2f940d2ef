package blob

import (
	"errors"
	"fmt"

	"maclef/internal/pubarea"
)

// ErrTruncated is wrapped by errors about a key file that ends too early. The message names the
// field and the position.
var ErrTruncated = errors.New("truncated")

// ErrDamaged is wrapped by errors about a key file or a [Key] that contradicts the specification or
// itself. The message names the field.
var ErrDamaged = pubarea.ErrDamaged

// ErrUnsupported is wrapped by errors about a valid TPM 2.0 key that this project does not support.
// The message names what is not supported.
var ErrUnsupported = pubarea.ErrUnsupported

// NotKeyError says that a file is not a key of a TPM, and what it is.
type NotKeyError struct {
	What string // with an article, such as "a certificate"; empty if unknown
	Do   string // what to do instead

	// PrivateKey says that the file is a software key. [Wrap] or [WrapTSS2] takes it after parsing
	// and, if needed, decryption.
	PrivateKey bool

	// Half says that the file is one of the two files that [ParsePair] parses.
	Half Half
}

// Error returns What and Do in one sentence.
func (e *NotKeyError) Error() string {
	if e.What == "" {
		return "not a TPM key file: " + e.Do
	}
	return e.What + ", not a TPM key: " + e.Do
}

// advise adds to an error of Parse what the user can do.
func advise(err error) error {
	switch {
	case errors.Is(err, ErrTruncated):
		return fmt.Errorf("%w; get a whole copy of the file", err)
	case errors.Is(err, ErrDamaged):
		return fmt.Errorf("%w; get a good copy of the file", err)
	}
	return err
}

// truncated returns an error that wraps ErrTruncated.
func truncated(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{ErrTruncated}, args...)...)
}

// damaged returns an error that wraps ErrDamaged.
func damaged(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{ErrDamaged}, args...)...)
}
