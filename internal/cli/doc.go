// Package cli is the common part of the commands: the function Main around their run
// function, flags, secrets and prompts, output files that are written completely or not at
// all, and errors with hints.
//
// A command is func main() { os.Exit(cli.Main("keygen", run)) }. Its run function makes an
// [Env] of its arguments, makes flags with [Env.Flags], and returns an error if it fails.
// Only [Main] exits.
//
// # Concurrency
//
// One goroutine defines and parses flags. Any goroutine may ask for secrets; a prompt waits
// for the prompt before it.
//
// # Secrets
//
// A secret is read when a TPM needs it, and at most once. No error contains one. The
// package clears its buffers of secrets, but not the copies of the Go runtime and the
// operating system (arguments, environment).
//
// # Limitations
//
// Prompts without echo work on Unix terminals and the Windows console. Where the file system
// makes no files without a name, a command that is killed with SIGKILL can leave a temporary file
// (.tmp-maclef-…) beside its output, which the next command removes. It never leaves a partial
// output.
package cli
