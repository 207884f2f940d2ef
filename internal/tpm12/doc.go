// Package tpm12 speaks TPM 1.2: commands, authorization sessions and result
// codes on the wire, as TPM Main Specification version 1.2, revision 116, has
// them.
//
// A Conn turns method calls into commands over any transport that has go-tpm's
// Send. Structures that also stand in files (TPM_KEY, TPM_PUBKEY) pass through
// as bytes: their layout is known elsewhere.
//
// # Concurrency
//
// A Conn is not safe for concurrent use.
//
// # Secrets
//
// A *Secret is read, never kept. A nil *Secret sends the command without
// authorization, as keys with authDataUsage "never" demand. A KeySession keeps
// what is derived from a secret, of use for its key and its duration only.
package tpm12
