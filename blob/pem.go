package blob

import (
	"bytes"
	"encoding/base64"
	"encoding/pem"
)

// PEM block types of keys: TPM 1.2, TPM 2.0, and old files of TPM 2.0.
const (
	pemType     = "TSS KEY BLOB"
	pemTSS2     = "TSS2 PRIVATE KEY"
	pemTSS2Blob = "TSS2 KEY BLOB"
)

// pemContainers maps a block type to its container.
var pemContainers = map[string]Container{pemType: PEM, pemTSS2: TSS2PEM, pemTSS2Blob: TSS2BlobPEM}

// isKey reports whether the block contains a key of a TPM.
func (p pemBlock) isKey() bool {
	_, ok := pemContainers[string(p.label)]
	return ok
}

// A pemBlock is a PEM block. Its slices are parts of the file.
type pemBlock struct {
	label  []byte // nil if there is no block
	body   []byte // the lines between BEGIN and END
	closed bool   // the END line was found
}

var (
	pemBegin = []byte("-----BEGIN ")
	pemEnd   = []byte("-----END ")
	pemTail  = []byte("-----")
)

// hasPEM reports whether a line of b begins a PEM block.
func hasPEM(b []byte) bool {
	block, _, _ := nextPEM(b)
	return block.label != nil
}

// nextPEM finds the first PEM block of b and returns what is before and after it. If there is none,
// before is b. It needs linear time and no allocation.
func nextPEM(b []byte) (block pemBlock, before, after []byte) {
	for from := 0; ; {
		i := bytes.Index(b[from:], pemBegin)
		if i < 0 {
			return pemBlock{}, b, nil
		}
		i += from
		from = i + len(pemBegin)
		if i > 0 && b[i-1] != '\n' {
			continue
		}
		line, rest, _ := bytes.Cut(b[from:], []byte("\n"))
		if label, ok := bytes.CutSuffix(trimLine(line), pemTail); ok {
			block.label = label
			block.body, block.closed, after = cutPEMBody(rest, label)
			return block, b[:i], after
		}
	}
}

// cutPEMBody splits the lines after BEGIN at the first line that begins with dashes, which should
// be the END line.
func cutPEMBody(b, label []byte) (body []byte, closed bool, after []byte) {
	i := 0
	if !bytes.HasPrefix(b, pemTail) {
		if i = bytes.Index(b, []byte("\n-----")); i < 0 {
			return b, false, nil
		}
		i++
	}
	line, rest, _ := bytes.Cut(b[i:], []byte("\n"))
	line, ok := bytes.CutPrefix(trimLine(line), pemEnd)
	if ok && len(line) == len(label)+len(pemTail) && bytes.HasPrefix(line, label) && bytes.HasSuffix(line, pemTail) {
		return b[:i], true, rest
	}
	if len(rest) == 0 && !ok || ok && len(rest) == 0 && len(line) < len(label)+len(pemTail) {
		return b[:i], false, nil // the END line is cut off
	}
	return b[:i], false, b[i:]
}

func trimLine(line []byte) []byte { return bytes.TrimRight(line, " \t\r") }

// cutHeaders splits the header lines off a block's lines, such as "Comment: ...". A header goes on
// in lines that begin with white space. RFC 1421, section 4.6.
func cutHeaders(body []byte) (headers, text []byte) {
	for text = body; ; {
		line, rest, _ := bytes.Cut(text, []byte("\n"))
		goesOn := len(text) < len(body) && len(line) > 0 && (line[0] == ' ' || line[0] == '\t')
		if bytes.IndexByte(line, ':') < 0 && !goesOn {
			return body[:len(body)-len(text)], text
		}
		text = rest
	}
}

// decode decodes the block's base64.
func (p *pemBlock) decode() ([]byte, error) {
	headers, text := cutHeaders(p.body)
	if bytes.Contains(headers, []byte("ENCRYPTED")) {
		return nil, damaged("the PEM block %s is encrypted (Proc-Type), and key files of TPMs never are", p.label)
	}
	body := make([]byte, 0, len(text))
	for _, c := range text {
		if c != ' ' && c != '\t' && c != '\r' && c != '\n' {
			body = append(body, c)
		}
	}
	der := make([]byte, base64.StdEncoding.DecodedLen(len(body)))
	n, err := base64.StdEncoding.Decode(der, body)
	if err != nil {
		return nil, damaged("PEM block %s has bad base64 after %d good bytes", p.label, n)
	}
	return der[:n], nil
}

// parsePEM parses the only TPM key among the PEM blocks of a text. It ignores other blocks, such as
// a certificate.
func parsePEM(text []byte) (Key, error) {
	var found, private, first pemBlock
	binary := false
	for rest := text; ; {
		block, before, after := nextPEM(rest)
		binary = binary || bytes.IndexByte(before, 0) >= 0
		switch {
		case block.label == nil:
			return parseFoundPEM(found, private, first, binary)
		case block.isKey() && found.label != nil:
			return nil, damaged("two PEM blocks of keys (%s) in one file, and it is not clear which is meant", block.label)
		case block.isKey() && !block.closed:
			return nil, unclosedPEM(block, after)
		case block.isKey():
			found = block
		case private.label == nil && bytes.HasSuffix(block.label, []byte("PRIVATE KEY")):
			private = block
		case first.label == nil:
			first = block
		}
		rest = after
	}
}

// parseFoundPEM parses the block of the key, or describes the other blocks.
func parseFoundPEM(found, private, first pemBlock, binary bool) (Key, error) {
	switch {
	case found.label != nil && binary:
		return nil, damaged("binary data beside the PEM block %s", found.label)
	case found.label != nil:
		der, err := found.decode()
		if err != nil {
			return nil, err
		}
		return found.parse(der)
	case binary:
		return nil, errUnknown()
	case private.label != nil:
		return nil, describePEM(private)
	}
	return nil, describePEM(first)
}

// parse parses the block's key from der, the decoded block.
func (p pemBlock) parse(der []byte) (Key, error) {
	c := pemContainers[string(p.label)]
	if c == PEM {
		return in(PEM, parseOctetString)(der)
	}
	t, err := parseTSS2(der)
	if err != nil {
		return nil, err
	}
	if t.container.old() != c.old() {
		return nil, damaged("the PEM block %s does not hold the form of TPM 2.0 key that its type says", p.label)
	}
	t.container = c
	return t, nil
}

// unclosedPEM describes a key block without an END line.
func unclosedPEM(block pemBlock, after []byte) error {
	if len(after) == 0 {
		return truncated("the line -----END %s----- is missing", block.label)
	}
	return damaged("the line -----END %s----- is missing, or stands in the wrong place", block.label)
}

// marshalPEM writes base64 in lines of 64 characters, like OpenSSL.
func (k *TPMKey) marshalPEM() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: pemType, Bytes: k.marshalOctetString()})
}
