package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"unicode"
	"unicode/utf16"

	"maclef/blob"
	"maclef/internal/cli"
	"maclef/internal/printable"
	"maclef/internal/pubarea"
	"maclef/internal/sysfs"
	"maclef/internal/transport"
	"maclef/tpmkey"
)

func status(env *cli.Env, fs *cli.FlagSet, args []string) error {
	fs.Notes = "What is loaded in a bare TPM (/dev/tpm0, a software TPM) while nobody else has it open was left behind: by a killed " +
		"program, or by one that keeps handles between its commands. /dev/tpm0 is for machines on which nobody uses the kernel's " +
		"resource manager (/dev/tpmrm0).\n\n" +
		"Where the TPM cannot be opened, because another program holds it or this user may not, it prints what the kernel " +
		"tells of it all the same, and fails.\n\nThe names of -json's fields do not change; what is not known is left out."
	fs.Example = "tpmctl status\ntpmctl status -json"
	which := fs.TPM()
	asJSON := fs.Bool("json", "as a JSON object, for programs")
	if _, err := fs.Parse(args); err != nil {
		return err
	}
	r, err := readReport(env, sysfs.Kernel{}, which)
	if r == nil {
		if !*asJSON {
			return err
		}
		r = &report{Name: which.Given(), Error: err.Error()}
	}
	if *asJSON {
		return errors.Join(err, printJSON(env.Stdout, r))
	}
	return errors.Join(err, printRows(env.Stdout, r.rows()))
}

// readReport asks the TPM and the kernel. With an error, the report has what the
// kernel told, or is nil where that is nothing.
func readReport(env *cli.Env, kernel sysfs.Kernel, which *cli.TPMFlag) (*report, error) {
	// Before the TPM is opened: this program is not one that holds it.
	nodes := kernel.Nodes()
	device := which.Given()
	node := kernel.Node(device)
	if device == "" && len(nodes) > 0 {
		node = nodes[0]
	}
	var s *tpmkey.Status
	var all loaded
	var keys []kept
	err := env.WithTPM(which, func(tpm *tpmkey.TPM) (err error) {
		if s, err = tpm.Status(context.Background()); err == nil {
			all, keys = readLoaded(tpm), describeKept(tpm, s.Persistent)
		}
		return err
	})
	switch {
	case errors.Is(err, transport.ErrNoDevice):
		err = cli.WithHint(err, kernel.WhyNone())
	case err == nil && device == "":
		node = nodeOf(nodes, kernel.Node(s.Name))
	}
	switch {
	case err != nil && node == nil:
		return nil, err
	case err != nil:
		return newReport(nil, node, nodes, err), err
	}
	r := newReport(s, node, nodes, nil)
	r.Loaded, r.Persistent = all, keys
	return r, nil
}

// describeKept says what the keys are that a TPM keeps itself.
func describeKept(tpm *tpmkey.TPM, handles []uint32) []kept {
	var all []kept
	for _, handle := range handles {
		k := kept{Handle: handle}
		if file, err := tpm.ReadHandle(context.Background(), handle); err == nil {
			k.Key = keptText(file.(*blob.TSS2))
		}
		all = append(all, k)
	}
	return all
}

// keptText is what a key is and does, in a few words.
func keptText(k *blob.TSS2) string {
	p, err := pubarea.Parse(k.Public)
	if err != nil {
		return ""
	}
	what := keyText(p)
	switch {
	case pubarea.TPMT(k.Public) == nil || p.Sealed():
		return what
	case p.Has(pubarea.AttrRestricted | pubarea.AttrDecrypt):
		return what + ": a parent of other keys"
	case p.Has(pubarea.AttrRestricted):
		return what + ": signs only what the TPM made"
	}
	return what + ": " + canText(k)
}

// nodeOf returns the one of nodes that was read before, which tells who held it.
func nodeOf(nodes []*sysfs.Node, now *sysfs.Node) *sysfs.Node {
	for _, n := range nodes {
		if now != nil && n.Device == now.Device {
			return n
		}
	}
	return now
}

func printJSON(w io.Writer, r *report) error {
	var text strings.Builder
	out := json.NewEncoder(&text)
	out.SetEscapeHTML(false)
	out.SetIndent("", "  ")
	if err := out.Encode(r); err != nil {
		return err
	}
	_, err := io.WriteString(w, harmlessJSON(text.String()))
	return err
}

// harmlessJSON writes what a terminal would obey, and JSON allows in a string, as
// JSON's escapes: the same to a program.
func harmlessJSON(text string) string {
	var b strings.Builder
	for _, r := range text {
		if r == '\n' || unicode.IsPrint(r) {
			b.WriteRune(r)
			continue
		}
		for _, unit := range utf16.AppendRune(nil, r) {
			fmt.Fprintf(&b, "\\u%04x", unit)
		}
	}
	return b.String()
}

// A row is a line of a table: what, and how it is, which may be foreign text.
type row struct{ what, how string }

func printRows(w io.Writer, rows []row) error {
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	for _, r := range rows {
		fmt.Fprintf(t, "%s:\t%s\n", r.what, printable.Line(strings.Join(strings.Fields(r.how), " ")))
	}
	return t.Flush()
}
