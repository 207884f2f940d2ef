// Package ecryptfs speaks with the kernel's eCryptfs about file keys that are
// wrapped with a public key: the tokens it takes, the requests it sends through
// /dev/ecryptfs, and the headers and names in a lower directory. What it says
// follows the kernel's own sources, fs/ecryptfs (file format version 3, token
// version 0.4).
//
// [KeyToken] and [NameToken] make the tokens, [WithTokens] has them in a keyring
// while the file system is mounted, [OpenDevice] and [Server.Serve] answer the
// kernel. [ParseHeader] and [ParseName] read a lower directory. Whoever uses the
// package brings the two operations, wrap and unwrap; it knows nothing of TPMs.
//
// # Concurrency
//
// A Server answers many requests at a time; it calls Unwrap from as many
// goroutines. The rest is functions.
//
// # Secrets
//
// File keys pass through the process, as the kernel's protocol has it. Those that
// came too late for the kernel stay in memory until they are asked for again, or
// the server ends; all are cleared after use.
//
// # Limitations
//
// Only files whose key is wrapped with a public key, their metadata in the header
// and not in an extended attribute. The kernel sends a request to the daemon of
// the user whose process opens a file, and to no other.
package ecryptfs
