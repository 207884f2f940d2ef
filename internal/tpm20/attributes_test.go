package tpm20

import (
	"testing"

	"github.com/google/go-tpm/tpm2"
)

// Attributes of sessions are as go-tpm has them.
func TestAttributes(t *testing.T) {
	t.Parallel()
	for i := range 256 {
		b := byte(i)
		a, ok := attributesOf(b)
		theirs, err := tpm2.Unmarshal[tpm2.TPMASession]([]byte{b})
		if err != nil {
			t.Fatal(err)
		}
		if reserved := b&0x18 != 0; ok == reserved {
			t.Errorf("%#02x: %v", b, ok)
		}
		if ok && (a != *theirs || attributesByte(a) != tpm2.Marshal(theirs)[0]) {
			t.Errorf("%#02x: %+v, and theirs is %+v", b, a, *theirs)
		}
	}
}
