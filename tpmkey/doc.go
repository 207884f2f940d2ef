// Package tpmkey opens key files made for a TPM as Go's crypto.Signer and crypto.Decrypter.
// Everything that takes these interfaces (crypto/x509, crypto/tls, x/crypto/ssh) then works with
// a key that never leaves the TPM.
//
// For TPM 1.2 it reads the "TSS KEY BLOB" files of OpenSSL's TPM engine (create_tpm_key), which
// OpenSSL 4.0 can no longer load, and follows the TPM Main Specification version 1.2, revision
// 116. For TPM 2.0 it reads "TSS2 PRIVATE KEY" files (draft-bottomley-tpm2-keys) and their
// predecessors, and follows the TPM 2.0 Library Specification. The calls are the same for both; a
// file of the other generation gives ErrWrongGeneration.
//
// Open a TPM, load a key file with LoadFile, use the Key, Close both:
//
//	tpm, err := tpmkey.Open(ctx, "")                // this machine's TPM
//	key, err := tpm.LoadFile(ctx, "maclef", nil)    // a crypto.Signer and crypto.Decrypter
//	cfg, err := key.TLSConfig("moncert")            // algorithms and version that this key can do
//	err = (&http.Server{Addr: ":4433", TLSConfig: cfg}).ListenAndServeTLS("", "")
//
// Enable, Activate and TakeOwnership prepare a TPM 1.2 for keys. Status returns its state, and
// Clear resets it. A TPM 2.0 needs no preparation.
//
// A Key also is a crypto.MessageSigner. A restricted key of a TPM 2.0, such as an attestation key,
// signs only so: see Key.SignMessage.
//
// Create makes a key, and Wrap makes a key file of an existing key. Encrypt needs only the key
// file, no TPM. Seal and Unseal are for data.
//
// # Concurrency
//
// A TPM and its Keys are safe for concurrent use. The TPM does one operation at a time, and the
// others wait in a queue. With WithContext and TLSConfig, operations leave the queue when nobody
// waits for their result any more.
//
// # Sharing
//
// Programs that use this package take turns: no program holds a device or a socket while it is
// idle. OpenOptions.Wait limits the wait for other programs. A bare TPM can be opened by one
// program at a time (/dev/tpm0, a socket, the emulator). Between its turns, a program has nothing
// loaded there: it loads keys and sessions when a turn needs them, and removes them at the end of
// the turn. Whatever is loaded when a turn begins was left by a killed program, or by one that
// keeps raw handles. It is flushed when its slot is needed; Loaded lists it, and FlushOrphans
// flushes it. A turn ends when no operation is waiting, or after 40 ms or eight operations,
// whichever is later. No operation begins later than 600 ms after the first one.
//
// Behind the kernel's resource manager (/dev/tpmrm0) each process seems to have the TPM to
// itself: the device stays open, and keys stay loaded, until Close. The same applies to a
// transport of OpenTransport; there this package flushes nothing that it did not load, and if no
// slot is free, that is an error.
//
// Contexts of keys are cached on disk until the TPM's next reset, so that the first use of a key
// is fast. Only this TPM can load them: see OpenOptions.NoCache.
//
// # Recovery
//
// After an error, an operation is repeated once, if that costs no try of a secret. If the TPM has
// lost the key, it is loaded again; if no slot is free, one is freed; a command that was not sent
// is sent again; a command whose reply was lost is repeated, because signing twice does no harm.
// Loading a key from its file again needs the parent's secret again. Replacing a lost session
// needs the key's secret again, unless that is kept.
//
// # Secrets
//
// A Secret states its encoding, because the TPM counts wrong secrets: after a few of them it
// locks everybody out for a while. A wrong key secret costs one try, and the same Key does not
// try it again. The lockout is read first, and no secret is tried while the TPM is locked out.
// Secrets that are given as bytes stay in memory until the Key is closed; answers of AskSecret do
// so only with Secret.Keep.
//
// # Limitations
//
// Use TLSConfig or TLSCertificate for TLS. TPM 1.2 has no RSA-PSS, so no TLS 1.3; and crypto/tls
// refuses an ECC key in TLS 1.2 that has a method Decrypt, as every Key has.
//
// A TPM 1.2 decrypts OAEP with SHA-1 and label "TCPA" only.
//
// Sessions with a TPM 2.0 are salted to its primary key. This package checks only the attributes
// of that key, not that it is in a genuine TPM. An eavesdropper on the bus learns nothing. But an
// attacker who answers in place of the TPM from the beginning can read new secrets and decrypted
// data. Replies without a session, such as random numbers and the PCR values for a new policy,
// are not authenticated.
//
// Wrap leaves copies of the private key in memory, as do the libraries that the key came from.
//
// A program that is killed during its turn leaves keys and sessions loaded. A program that is
// killed at any time may leave the saved session of a secret that was asked for. On a TPM 1.2
// that saves no contexts, keys stay loaded between turns.
package tpmkey
