// Package tpm20 sends TPM 2.0 commands. It uses go-tpm's commands, and adds its own authorization
// sessions, retries while the TPM is busy, errors that tell a refused command from a lost reply,
// and a record of the open sessions. Citations are of revision 1.59 of the TPM 2.0 Library
// Specification.
//
// [Run] runs any of go-tpm's commands. Frequent commands (Sign, RSADecrypt, ECDHZGen, Unseal) are
// marshalled by hand, because go-tpm's reflection is much slower.
//
// # Concurrency
//
// A Conn, its Objects and its Sessions are not safe for concurrent use.
//
// # Secrets
//
// No call keeps an auth value; a Session keeps a key derived from it, and uses the auth value as
// the key of an HMAC only. Parameters are encrypted where an auth value is set or
// secret data is returned: see [Session.For].
package tpm20
