// Package tpm12 sends TPM 1.2 commands. It implements marshalling, authorization sessions and
// result codes of the TPM Main Specification version 1.2, revision 116.
//
// A Conn works over any transport that has go-tpm's Send. Structures that key files contain as
// well (TPM_KEY, TPM_PUBKEY) are passed as bytes; package blob knows their layout.
//
// # Concurrency
//
// A Conn is not safe for concurrent use.
//
// # Secrets
//
// No call keeps the *Secret it is given. A nil *Secret sends the command without authorization,
// which is what keys with authDataUsage "never" require. A KeySession keeps a value derived from
// the secret, which is valid for its key and until the session ends.
package tpm12
