package tpmkey

// Family returns which generation of TPM this is, "1.2" or "2.0", as Status does. It
// asks the TPM nothing.
func (t *TPM) Family() string {
	if t.chip.generation() == tpm12Family {
		return "1.2"
	}
	return "2.0"
}
