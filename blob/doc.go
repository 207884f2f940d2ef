// Package blob reads and writes TPM 1.2 key files: a TPM_KEY or TPM_KEY12
// structure (TPM Main Part 2, sections 10.2 and 10.3) in one of the containers
// that programs have put around it.
//
// [Parse] turns the bytes of a file into a [Key] and finds the container by
// content, never by name. [Key.Marshal] writes any container. [NewTemplate]
// makes what a TPM needs to create a key, [Wrap] makes a key file of an RSA key
// that exists already, and [ParsePubKey] reads a public key as a TPM returns it.
// Nothing here talks to a TPM or opens a file.
//
// # Concurrency
//
// A Key is plain data: any number of goroutines may read one, none may change
// it meanwhile. Functions keep no state.
//
// # Secrets
//
// The private part of a key file is encrypted for one TPM; this package can
// neither read nor check it. Wrap clears the buffer in which it gathers a
// private key. Errors tell names, sizes and positions, never a file's contents.
//
// # Limitations
//
// RSA with two primes only: TPM 1.2 has no other keys. TPM 2.0 key files are
// recognised and refused.
package blob
