// Package interop tests that keys for a TPM 2.0 go both ways between this project
// and the other programs that use such keys: tpm2-openssl and tpm2-tools of Debian,
// and go-tpm-keyfiles; that data sealed to a TPM 1.2 does with tpm-tools; and that the
// library works over go-tpm-tools' simulator. It is
// a module of its own, because what it needs would be in the go.mod of everybody who
// uses the library: the simulator needs cgo and OpenSSL's headers.
package interop
