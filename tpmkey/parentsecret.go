package tpmkey

import (
	"cmp"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
)

// defaultParent is the SRK of a TPM 1.2, and the owner's hierarchy of a TPM 2.0.
const defaultParent = 0x40000001

// parent is the handle of the key's parent, as the file says it.
func (h *keyState) parent() uint32 {
	if h.file.TSS2 == nil {
		return defaultParent
	}
	return cmp.Or(h.file.TSS2.Parent, defaultParent)
}

// checkRefused refuses a secret that a parent has refused before.
func (t *TPM) checkRefused(parent uint32, srk authData) error {
	if t.refused != nil && hmac.Equal(t.refused, t.mark(parent, srk)) {
		return &refusal{ErrWrongSRKSecret, "the TPM has refused this one before; it was not tried again", nil}
	}
	return nil
}

// noteProved remembers a parent's secret that the TPM has accepted.
func (t *TPM) noteProved(parent uint32, srk authData) { t.proved = t.mark(parent, srk) }

// noteRefused remembers one that it has refused, and never accepted.
func (t *TPM) noteRefused(parent uint32, srk authData) {
	if !t.hasProved(parent, srk) {
		t.refused = t.mark(parent, srk)
	}
}

// hasProved reports whether the TPM has accepted this secret of a parent before.
func (t *TPM) hasProved(parent uint32, srk authData) bool {
	return srk == nil || hmac.Equal(t.proved, t.mark(parent, srk))
}

// mark stands for a secret of a parent that is not to be kept.
func (t *TPM) mark(parent uint32, secret authData) []byte {
	h := hmac.New(sha256.New, t.salt[:])
	h.Write(binary.BigEndian.AppendUint32(nil, parent))
	h.Write(secret)
	return h.Sum(nil)
}
