// Package blob reads and writes key files of both generations of TPM.
//
// A TPM 1.2 key is a TPM_KEY or TPM_KEY12 structure (TPM Main Part 2, sections 10.2 and 10.3) in
// one of several containers. A TPM 2.0 key is a TSS2 PRIVATE KEY (draft-bottomley-tpm2-keys), the
// older TSS2 KEY BLOB, or a pair of files of tpm2-tools. Data sealed to a TPM 1.2 is a file of
// tpm-tools' tpm_sealdata.
//
// [Parse] parses a key file and recognises the container by its content; [ParsePair] parses a pair.
// Both return a [Key], which is a [*TPMKey], a [*TPMSealed] or a [*TSS2]. Its method Marshal writes the key in any
// container that fits. [NewTemplate] and [NewTSS2Template] return what a TPM needs to create a key,
// and [NewTPMKey] and [NewTSS2] make a key file from the TPM's reply. [Wrap] and [WrapTSS2] make a
// key file from a software key. [ParsePubKey] parses a public key from a TPM 1.2. The package does
// not talk to a TPM and opens no files.
//
// # Concurrency
//
// A Key is plain data. Several goroutines may read it as long as none changes it. Functions have no
// state.
//
// # Secrets
//
// The private part of a key file is encrypted for one TPM, so this package can neither read nor
// check it. Wrap and WrapTSS2 clear their buffers with the private key; go-tpm, which encrypts it
// for WrapTSS2, leaves a copy to the garbage collector. Errors contain names, sizes and positions,
// but never a file's contents.
//
// # Limitations
//
// Supported keys are RSA with two primes, and ECC on P-256, P-384 and P-521. Other TPM 2.0 keys can
// be parsed and written, but [TSS2.PublicKey] returns nil for them and [TSS2.Unsupported] says why.
package blob
