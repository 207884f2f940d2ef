// Package tpmkey opens key files made for a TPM as Go's crypto.Signer and
// crypto.Decrypter: first of all the "TSS KEY BLOB" files of OpenSSL's TPM
// engine (create_tpm_key), which OpenSSL 4.0 can no longer load. Whatever takes
// those interfaces (crypto/x509, crypto/tls, x/crypto/ssh) then works with a key
// that never leaves the chip. It speaks TPM 1.2 as the TPM Main Specification
// version 1.2, revision 116, has it, and TPM 2.0 as the TPM 2.0 Library Specification,
// for "TSS2 PRIVATE KEY" files (draft-bottomley-tpm2-keys) and what came before them.
// The calls are the same for both; a file of the other generation is
// ErrWrongGeneration.
//
// Open a TPM, load a key file with LoadFile, use the Key, Close both:
//
//	tpm, err := tpmkey.Open(ctx, "")                // this machine's TPM
//	key, err := tpm.LoadFile(ctx, "maclef", nil)    // a crypto.Signer and crypto.Decrypter
//	cfg, err := key.TLSConfig("moncert")            // algorithms and version that this key can do
//	err = (&http.Server{Addr: ":4433", TLSConfig: cfg}).ListenAndServeTLS("", "")
//
// A TPM 1.2 that is not ready for keys is brought there with Enable, Activate and
// TakeOwnership; Status tells how far it is, and Clear takes all back. A TPM 2.0 is
// ready.
//
// Create makes a key, Wrap makes a key file of a key that exists. Encrypt needs the key
// file only, no TPM. Seal and Unseal are for data, on a TPM 2.0.
//
// # Concurrency
//
// A TPM and its Keys are safe for concurrent use; the chip does one thing at a
// time. Operations wait for each other in a queue that WithContext and TLSConfig
// leave when nobody wants their result any more.
//
// # Sharing
//
// Programs that use this package take turns: none holds a device or a socket while
// it is idle. OpenOptions.Wait bounds the wait for others. A bare TPM, which one program
// has open at a time (/dev/tpm0, a socket, the emulator), holds nothing of a program
// between its turns: keys and sessions are brought in when a turn needs them, and taken
// out at its end. What is loaded when a turn begins was left behind, by a killed program
// or one that keeps raw handles, and is freed when its place is needed; Loaded lists it,
// and FlushOrphans frees it. A turn ends when nothing is to be done, or after 40 ms or
// eight operations, whichever is later; no operation begins 600 ms after the first one.
//
// Behind the kernel's resource manager (/dev/tpmrm0) each process has the TPM to itself,
// as far as it sees: the file stays open, and what is loaded stays loaded, until Close. So
// it does on a transport of OpenTransport; there nothing is freed that was not loaded by
// this package, and want of room is an error.
//
// What the first use of a key had the TPM make is kept on disk until the TPM's next reset,
// as contexts that only this TPM can load: see OpenOptions.NoCache.
//
// # Recovery
//
// What goes wrong is repaired once, where that costs no try of a secret: a key that the TPM
// has lost is loaded again, a slot is freed where none is free, a command that was not sent is sent
// again, and one whose answer was lost is repeated: signing twice does no harm. For loading
// from the file again the parent's secret is needed again; for a session that was lost, the
// key's, if it may not be kept.
//
// # Secrets
//
// A Secret names its encoding, because the TPM counts wrong ones: after a few it
// locks everybody out for a while. A wrong key secret costs one try, and is not
// tried again by the same Key; the lockout is read first, and where the TPM is locked
// out no secret is tried. Secrets that are given as bytes stay in memory until the Key
// is closed; answers of AskSecret do not, unless Secret.Keep says so.
//
// # Limitations
//
// Use TLSConfig or TLSCertificate for TLS: TPM 1.2 has no RSA-PSS, so no TLS 1.3, and
// crypto/tls refuses an ECC key in TLS 1.2 that has a method Decrypt, as every Key has.
// A TPM 1.2 decrypts OAEP with SHA-1 and label "TCPA" only. Whether the public key of a
// TPM 2.0's primary key, which sessions are salted to, is that of a TPM and not of
// somebody on the bus, is checked by what it says of itself only: who listens learns
// nothing, but who answers for the TPM from the beginning reads new secrets and what is
// decrypted. What has no session, such as random numbers and the PCRs that a new policy
// takes, is believed as it comes. Wrap leaves copies of a private key in memory, as the
// libraries do that it came from.
// A program that is killed in its turn leaves keys and sessions loaded, and one that is
// killed at any time may leave the saved session of a secret that was asked for. On a
// TPM 1.2 that saves no contexts, keys stay loaded between turns.
package tpmkey
