package pubarea

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/google/go-tpm/tpm2"
	"golang.org/x/crypto/cryptobyte"
)

// ErrDamaged is blob.ErrDamaged.
var ErrDamaged = errors.New("damaged")

// damaged returns an error that wraps ErrDamaged.
func damaged(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{ErrDamaged}, args...)...)
}

// ShortError returns the error for a field that is longer than the rest of the data.
func ShortError(kind error, field string, need uint64, left, offset int) error {
	return fmt.Errorf("%w: %s needs %d bytes, %d left at offset %d", kind, field, need, left, offset)
}

// A Reader reads big-endian fields. After the first error, which it stores in Err, all fields are
// zero.
type Reader struct {
	Err error

	s     cryptobyte.String
	size  int   // initial length of s, to compute offsets
	short error // the error for a field that does not fit wraps this
}

// NewReader returns a Reader of b. The error for a field that does not fit wraps short.
func NewReader(b []byte, short error) Reader { return Reader{s: b, size: len(b), short: short} }

// Fits reports whether at least n bytes are left. If not, it sets Err.
func (r *Reader) Fits(field string, n uint64) bool {
	if r.Err == nil && uint64(len(r.s)) < n {
		r.Err = ShortError(r.short, field, n, len(r.s), r.size-len(r.s))
	}
	return r.Err == nil
}

// Bytes returns a copy of n bytes.
func (r *Reader) Bytes(field string, n int) []byte {
	var b []byte
	if r.Fits(field, uint64(n)) {
		r.s.ReadBytes(&b, n)
	}
	return bytes.Clone(b)
}

// Uint8 reads a byte.
func (r *Reader) Uint8(field string) (v uint8) {
	if r.Fits(field, 1) {
		r.s.ReadUint8(&v)
	}
	return v
}

// Uint16 reads a number.
func (r *Reader) Uint16(field string) (v uint16) {
	if r.Fits(field, 2) {
		r.s.ReadUint16(&v)
	}
	return v
}

// Uint32 reads a number.
func (r *Reader) Uint32(field string) (v uint32) {
	if r.Fits(field, 4) {
		r.s.ReadUint32(&v)
	}
	return v
}

// Alg reads an algorithm identifier.
func (r *Reader) Alg(field string) tpm2.TPMAlgID { return tpm2.TPMAlgID(r.Uint16(field)) }

// Sized16 returns a copy of a field that has its size in front, a uint16. It returns nil if the
// field is empty.
func (r *Reader) Sized16(field string) []byte {
	n := r.Uint16(field + " size")
	if n == 0 || !r.Fits(field, uint64(n)) {
		return nil
	}
	return r.Bytes(field, int(n))
}

// End returns Err, or an error if bytes are left.
func (r *Reader) End(structure string) error {
	if r.Err == nil && len(r.s) > 0 {
		r.Err = damaged("%d bytes too many at the end of %s", len(r.s), structure)
	}
	return r.Err
}
