// Package cli is what the commands share: the frame around run, flags, secrets
// and prompts, output files that are written whole or not at all, and errors
// that say what to do next.
//
// A command is func main() { os.Exit(cli.Main("keygen", run)) }. Its run makes
// an [Env] of what it was given, flags of that with [Env.Flags], and returns an
// error where it fails; only [Main] exits.
//
// # Concurrency
//
// Flags are defined and parsed by one goroutine. Secrets may be asked for by
// any: a prompt waits for the one before it.
//
// # Secrets
//
// Secrets are read when a TPM needs them, at most once, and never stand in an
// error. The buffers they pass through are cleared; what the Go runtime and the
// operating system copied (arguments, environment) is beyond reach.
//
// # Limitations
//
// Prompts without echo are for Unix terminals and the Windows console. A
// command killed with SIGKILL can leave a temporary file (.tmp-…) beside its
// output, never half an output.
package cli
