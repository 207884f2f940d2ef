// Tpmctl manages a TPM 1.2 or 2.0 and uses keys from key files. It replaces tpm_version,
// tpm_takeownership, tpm_clear, tpm_setenable, tpm_setactive, and openssl dgst and pkeyutl with an
// engine.
package main

import (
	"fmt"
	"io"
	"os"
	"strings"

	"maclef/internal/cli"
)

func main() { os.Exit(cli.Main("tpmctl", run)) }

type subcommand struct {
	name    string
	purpose string
	run     func(env *cli.Env, fs *cli.FlagSet, args []string) error
}

var subcommands = []subcommand{
	{"status", "show whether there is a TPM, which one, and its state", status},
	{"own", "get a TPM 1.2 ready for keys: enable, activate, take ownership", own},
	{"enable", "enable a TPM 1.2 that is disabled", enable},
	{"disable", "disable a TPM 1.2: its keys do not work until it is enabled", disable},
	{"activate", "activate a TPM 1.2 at its next start", activate},
	{"deactivate", "deactivate a TPM 1.2 at its next start", deactivate},
	{"clear", "remove the TPM's owner and make all its keys useless", clearTPM},
	{"reset-lockout", "end a lockout after wrong secrets, with the owner's or lockout secret", resetLockout},
	{"inspect", "show what is in a key file, without a TPM", inspect},
	{"pub", "write the public key of a key file, without a TPM", pub},
	{"sign", "sign a file, like openssl dgst -sign", sign},
	{"encrypt", "encrypt a short file for a key, without a TPM", encrypt},
	{"decrypt", "decrypt what was encrypted for a key", decrypt},
	{"seal", "seal a secret so that only this TPM opens it", seal},
	{"unseal", "open sealed data", unseal},
	{"random", "write random bytes made by the TPM", random},
	{"flush", "free the keys and sessions that killed programs left in the TPM", flush},
	{"explain", "explain an error code of a TPM, without a TPM", explain},
}

func run(args []string, stdin io.Reader, stdout, stderr io.Writer) error {
	env := cli.NewEnv("tpmctl", stdin, stdout, stderr)
	if len(args) == 0 {
		return &cli.UsageError{Text: "a subcommand is missing", Advice: "one of " + names() + "; tpmctl -h says more"}
	}
	switch args[0] {
	case "help":
		if len(args) > 1 {
			return run([]string{args[1], "-h"}, stdin, stdout, stderr)
		}
		return &cli.Help{Text: usage()}
	case "-h", "-help", "--help":
		return &cli.Help{Text: usage()}
	case "-version", "--version":
		return &cli.Help{Text: cli.VersionText("tpmctl")}
	}
	for _, s := range subcommands {
		if s.name == args[0] {
			fs := env.Flags()
			fs.Name, fs.Purpose = "tpmctl "+s.name, s.purpose
			return s.run(env, fs, args[1:])
		}
	}
	if strings.HasPrefix(args[0], "-") {
		return &cli.UsageError{Text: "flags come after the subcommand", Advice: "tpmctl status " + args[0] + " …; the subcommands are " + names()}
	}
	return &cli.UsageError{Text: fmt.Sprintf("unknown subcommand %q", args[0]), Advice: "one of " + names()}
}

func names() string {
	var all []string
	for _, s := range subcommands {
		all = append(all, s.name)
	}
	return strings.Join(all, ", ")
}

func usage() string {
	var b strings.Builder
	b.WriteString("manage a TPM and use keys from key files\n\nUsage: tpmctl SUBCOMMAND [flags] …\n\nSubcommands:\n")
	for _, s := range subcommands {
		fmt.Fprintf(&b, "  %-13s %s\n", s.name, s.purpose)
	}
	b.WriteString("\ntpmctl SUBCOMMAND -h shows its flags.\n\nExample:\n  $ tpmctl status\n  $ tpmctl sign -key maclef -hash sha256 -in letter.txt -out letter.sig\n")
	return b.String()
}
