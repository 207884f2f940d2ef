package tpmkey

import (
	"fmt"
	"io"
)

// Random returns the TPM's random number generator. A Read fills the whole
// buffer or fails; a TPM 1.2 gives a few hundred bytes a command, so this is
// for keys and seeds, not for bulk. TPM Main Part 3, section 13.6
// (TPM_GetRandom); TPM 2.0 Library Part 3, section 16.1 (TPM2_GetRandom), 64 bytes at
// most.
func (t *TPM) Random() io.Reader { return random{t} }

type random struct{ tpm *TPM }

func (r random) Read(p []byte) (n int, err error) {
	for n < len(p) {
		var b []byte
		err := r.tpm.simply(func() (err error) {
			b, err = r.tpm.chip.random(min(len(p)-n, maxRandom))
			return err
		})
		if err != nil {
			return n, fmt.Errorf("read random numbers: %w", err)
		}
		n += copy(p[n:], b)
	}
	return n, nil
}

// maxRandom fits every TPM's reply buffer.
const maxRandom = 256
