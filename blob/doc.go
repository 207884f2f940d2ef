// Package blob reads and writes key files of both generations of TPM.
//
// A key of a TPM 1.2 is a TPM_KEY or TPM_KEY12 structure (TPM Main Part 2, sections
// 10.2 and 10.3) in one of the containers that programs have put around it. A key of a
// TPM 2.0 is a TSS2 PRIVATE KEY (draft-bottomley-tpm2-keys), the TSS2 KEY BLOB that came
// before it, or a pair of files of tpm2-tools.
//
// [Parse] turns the bytes of a file into a [Key], which is a [*TPMKey] or a [*TSS2], and
// finds the container by content, never by name; [ParsePair] takes the two files of a
// pair. The method Marshal writes any container that the key fits. [NewTemplate] and
// [NewTSS2Template] make what a TPM needs to create a key, [NewTPMKey] and [NewTSS2] make
// a key file of what it answered; [Wrap] and [WrapTSS2] make a key file of a software key.
// [ParsePubKey] reads a public key as a TPM 1.2 returns it. Nothing here talks to a TPM or
// opens a file.
//
// # Concurrency
//
// A Key is plain data: any number of goroutines may read one, none may change
// it meanwhile. Functions keep no state.
//
// # Secrets
//
// The private part of a key file is encrypted for one TPM; this package can
// neither read nor check it. Wrap and WrapTSS2 clear the buffers in which they gather a
// private key; go-tpm, which encrypts it for WrapTSS2, leaves a copy to the garbage
// collector. Errors tell names, sizes and positions, never a file's contents.
//
// # Limitations
//
// Keys are RSA with two primes, and ECC on P-256, P-384 and P-521. Others of a TPM 2.0 can
// be read and written; [TSS2.Unsupported] names what is not supported, and
// [TSS2.PublicKey] is nil.
package blob
