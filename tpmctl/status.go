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
	"maclef/internal/roca"
	"maclef/internal/sysfs"
	"maclef/internal/transport"
	"maclef/tpmkey"
)

func status(env *cli.Env, fs *cli.FlagSet, args []string) error {
	fs.Notes = "Keys and sessions that are loaded in a bare TPM (/dev/tpm0, a software TPM) while nobody else has it open were left behind by " +
		"a killed program, or by one that keeps handles between its commands. Use /dev/tpm0 only on a machine where nobody uses the kernel's " +
		"resource manager (/dev/tpmrm0).\n\n" +
		"If another program holds the TPM, or this user may not open it, tpmctl status prints what the kernel " +
		"knows about it, and fails.\n\nThe names of the JSON fields do not change; unknown fields are left out."
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

// readReport asks the TPM and the kernel. If the TPM fails, the report has what the kernel knows,
// or is nil.
func readReport(env *cli.Env, kernel sysfs.Kernel, which *cli.TPMFlag) (*report, error) {
	// Read this before opening the TPM, so that this program is not among those that hold it.
	nodes := kernel.Nodes()
	device := which.Given()
	node := kernel.Node(device)
	if device == "" && len(nodes) > 0 {
		node = nodes[0]
	}
	var s *tpmkey.Status
	var all loaded
	var keys []persistentKey
	err := env.WithTPM(which, func(tpm *tpmkey.TPM) (err error) {
		if s, err = tpm.Status(context.Background()); err == nil {
			all, keys = readLoaded(tpm), readPersistent(tpm, s.Persistent)
		}
		return err
	})
	switch {
	case errors.Is(err, transport.ErrNoDevice):
		err = cli.WithHint(err, kernel.WhyNone()+"; "+cli.Hint(err, nil))
	case err == nil && device == "":
		node = sameNode(nodes, kernel.Node(s.Name))
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

// readPersistent describes the keys that a TPM keeps.
func readPersistent(tpm *tpmkey.TPM, handles []uint32) []persistentKey {
	var all []persistentKey
	for _, handle := range handles {
		k := persistentKey{Handle: handle}
		if file, err := tpm.ReadHandle(context.Background(), handle); err == nil {
			k.Key = keptText(file.(*blob.TSS2))
		}
		all = append(all, k)
	}
	return all
}

// keptText describes a persistent key in a few words, and warns of a weak one.
func keptText(k *blob.TSS2) string {
	text := keptUse(k)
	if roca.Weak(k.PublicKey()) {
		text += "; do not use it: " + roca.Explanation
	}
	return text
}

// keptUse says what a persistent key is and what it is for.
func keptUse(k *blob.TSS2) string {
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
	}
	return what + ": " + canText(k)
}

// sameNode returns the entry of nodes for the device now. It was read before the TPM was opened.
func sameNode(nodes []*sysfs.Node, now *sysfs.Node) *sysfs.Node {
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
	_, err := io.WriteString(w, escapeJSON(text.String()))
	return err
}

// escapeJSON escapes characters that JSON allows in a string but a terminal would interpret.
func escapeJSON(text string) string {
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

// A row is a line of a table. how may contain text from other sources.
type row struct{ what, how string }

func printRows(w io.Writer, rows []row) error {
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	for _, r := range rows {
		fmt.Fprintf(t, "%s:\t%s\n", r.what, printable.Line(strings.Join(strings.Fields(r.how), " ")))
	}
	return t.Flush()
}
