// Package ecryptfs implements the daemon side of the kernel's eCryptfs, for file keys that are
// wrapped with a public key. It makes tokens, answers requests from /dev/ecryptfs, and reads
// headers and names in a lower directory. The formats are those of the kernel's fs/ecryptfs (file
// format version 3, token version 0.4).
//
// [KeyToken] and [NameToken] make tokens, [WithTokens] adds them to a keyring, [OpenDevice] and
// [Server.Serve] answer the kernel. [ParseHeader] and [ParseName] read a lower directory. The
// caller provides the functions that wrap and unwrap; this package knows nothing of TPMs.
//
// # Concurrency
//
// A Server answers many requests at once and calls unwrap from several goroutines. Everything else
// has no state.
//
// # Secrets
//
// File keys pass through the process. A key that came too late for the kernel stays in memory until
// it is requested again or the server ends. All keys are cleared after use.
//
// # Limitations
//
// The package handles only files whose key is wrapped with a public key and whose metadata are in
// the header, not in an extended attribute. The kernel sends a request only to the daemon of the
// user whose process opens the file.
package ecryptfs
