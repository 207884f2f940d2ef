// Package tpmkey opens key files made for a TPM as Go's crypto.Signer and
// crypto.Decrypter: first of all the "TSS KEY BLOB" files of OpenSSL's TPM
// engine (create_tpm_key), which OpenSSL 4.0 can no longer load. Whatever takes
// those interfaces (crypto/x509, crypto/tls, x/crypto/ssh) then works with a key
// that never leaves the chip. It speaks TPM 1.2 as the TPM Main Specification
// version 1.2, revision 116, has it.
//
// Open a TPM, load a key file with LoadFile, use the Key, Close both:
//
//	tpm, err := tpmkey.Open("")                // this machine's TPM
//	key, err := tpm.LoadFile("maclef", nil)    // a crypto.Signer and crypto.Decrypter
//	cfg, err := key.TLSConfig("moncert")       // algorithms and version that this key can do
//	err = (&http.Server{Addr: ":4433", TLSConfig: cfg}).ListenAndServeTLS("", "")
//
// A TPM that is not ready for keys is brought there with Enable, Activate and
// TakeOwnership; Status tells how far it is, and Clear takes all back.
//
// Create makes a key, Wrap makes a key file of an RSA key that exists. Encrypt
// needs the key file only, no TPM.
//
// # Concurrency
//
// A TPM and its Keys are safe for concurrent use; the chip does one thing at a
// time. A device and a socket are held until Close, so that nobody else can
// use them; processes that share an emulator take turns.
//
// # Secrets
//
// A Secret names its encoding, because the TPM counts wrong ones: after a few it
// locks everybody out for a while. A wrong key secret costs one try, and is not
// tried again by the same Key. A Key keeps its secret in memory until Close.
//
// # Limitations
//
// TPM 1.2 has no RSA-PSS, so no TLS 1.3: use TLSConfig, or limit both certificate
// and version. It decrypts OAEP with SHA-1 and label "TCPA" only. Keys that were
// loaded are lost when the TPM restarts; load them again.
package tpmkey
