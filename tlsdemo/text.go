package main

import (
	"fmt"
	"strings"
	"time"

	"maclef/internal/cli"
)

// text returns the report for terminals.
func (rep *report) text() string {
	var b strings.Builder
	c, cert := rep.Connection, rep.Certificate
	fmt.Fprintf(&b, "%s\n\n", rep.headline())
	section(&b, "This connection",
		"protocol", c.TLS+", "+c.HTTP,
		"cipher", c.Cipher,
		"signature", rep.signature(),
		"client", c.Subject)
	section(&b, "Certificate",
		"subject", shortText(cert.Subject, 300),
		"issuer", cert.IssuerText(),
		"names", shortText(cert.NameList(), 1000),
		"valid", cert.Period(),
		"SHA-256", cert.SHA256,
		"key", cert.Key)
	section(&b, "TPM",
		"model", rep.TPM.Text,
		"opened as", shortText(rep.TPM.Name, 300),
		"", rep.warning())
	section(&b, "Since "+rep.Started.Format("2006-01-02 15:04 MST"),
		"handshakes", rep.handshakes(),
		"closed", rep.evicted(),
		"signatures", rep.times(),
		"", sparkline(rep.samples))
	return strings.TrimRight(b.String(), "\n") + "\n"
}

// section writes a title and rows of label and text. It skips rows without text.
func section(b *strings.Builder, title string, rows ...string) {
	b.WriteString(title + "\n")
	for i := 0; i < len(rows); i += 2 {
		if rows[i+1] != "" {
			fmt.Fprintf(b, "  %-11s %s\n", rows[i], rows[i+1])
		}
	}
	b.WriteString("\n")
}

// headline says what this server is there to show.
func (rep *report) headline() string {
	if rep.Connection.Resumed {
		return "This connection goes on from an earlier one; the TPM had nothing to sign."
	}
	return fmt.Sprintf("A %s signed for this connection in %s.", rep.kind(), milliseconds(rep.Own))
}

func (rep *report) kind() string {
	if rep.TPM.Software {
		return "software TPM"
	}
	return "TPM"
}

func (rep *report) warning() string {
	if rep.TPM.Software {
		return "This is a software TPM, for trying things out: it protects nothing."
	}
	return ""
}

func (rep *report) signature() string {
	if rep.Connection.Resumed {
		return "none: a resumed session"
	}
	return fmt.Sprintf("%s, %s in the TPM", rep.Connection.Signature, milliseconds(rep.Own))
}

func (rep *report) handshakes() string {
	h := rep.Handshakes
	text := fmt.Sprintf("%d: %d signed, %d resumed", h.Complete, h.Signed, h.Resumed)
	if h.Failed > 0 {
		text += fmt.Sprintf("; %d more failed", h.Failed)
	}
	if h.Unsigned > 0 {
		text += fmt.Sprintf("; %d more the key could not sign", h.Unsigned)
	}
	if h.GaveUp > 0 {
		text += fmt.Sprintf("; %d more gave up waiting", h.GaveUp)
	}
	return text
}

// evicted says how many connections were closed to make room.
func (rep *report) evicted() string {
	c := rep.Connections
	if c.Evicted == 0 {
		return ""
	}
	return fmt.Sprintf("%s, silent or idle, because at most %d may be open", cli.Counted(c.Evicted, "connection"), c.Limit)
}

// Failures counts failed handshakes, without those whose client gave up.
func (rep *report) Failures() int { return rep.Handshakes.Failed + rep.Handshakes.Unsigned }

func (rep *report) times() string {
	if len(rep.samples) == 0 {
		return "none yet"
	}
	of := ""
	if rep.Signatures.Total > len(rep.samples) {
		of = fmt.Sprintf(" of the last %d", len(rep.samples))
	}
	return fmt.Sprintf("%d, median%s %s (%s to %s)", rep.Signatures.Total, of,
		milliseconds(rep.Spread.Median), milliseconds(rep.Spread.Fastest), milliseconds(rep.Spread.Slowest))
}

func (c certificate) IssuerText() string {
	if c.selfSigned {
		return "itself (self-signed)"
	}
	return shortText(c.Issuer, 300)
}

func (c certificate) NameList() string {
	if len(c.Names) == 0 {
		return "none"
	}
	return strings.Join(c.Names, ", ")
}

func (c certificate) Period() string {
	return fmt.Sprintf("%s to %s, %s", c.NotBefore.Format(time.DateOnly), c.NotAfter.Format(time.DateOnly), c.lifetime.left)
}

// sparkline draws the latest samples in a line of text. Its scale begins at zero.
func sparkline(samples []sample) string {
	const width = 60
	if len(samples) > width {
		samples = samples[len(samples)-width:]
	}
	marks := []rune("▁▂▃▄▅▆▇█")
	top := spreadOf(samples).Slowest
	out := make([]rune, len(samples))
	for i, s := range samples {
		out[i] = marks[min(len(marks)-1, int(s.took*time.Duration(len(marks))/(top+1)))]
	}
	return string(out)
}
