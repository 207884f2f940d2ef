// Package tpm20 speaks TPM 2.0 by go-tpm's commands: it sends them again while
// the TPM is busy, authorizes them in sessions of its own, tells a refusal from an
// answer that was lost, and keeps account of what it has loaded. Citations are of
// the TPM 2.0 Library specification, revision 1.59.
//
// A Conn runs any command of go-tpm by [Run]; what keys do again and again (Sign,
// RSADecrypt, ECDHZGen, Unseal) it marshals by hand, which costs a fraction of
// go-tpm's reflection.
//
// # Concurrency
//
// A Conn, its Objects and its Sessions are not safe for concurrent use.
//
// # Secrets
//
// Auth values are read, never kept; a Session keeps what is derived from them. A
// password crosses only as the key of an HMAC, and, where it is set or something
// secret comes back, parameters cross encrypted: [Session.For].
package tpm20
