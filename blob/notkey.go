package blob

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"strings"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"
)

// What to do with other kinds of files.
const (
	doWrap    = "it must be wrapped for a TPM"
	doWrapEC  = "it must be wrapped for a TPM 2.0; a TPM 1.2 has RSA keys only"
	doNew     = "TPMs have RSA keys, and those of TPM 2.0 ECDSA keys"
	doOpenSSH = "if it is an RSA or ECDSA key, convert a copy with ssh-keygen -p -m PEM and wrap that"
	doPublic  = "give the key file that belongs to it"
	doContext = "give the files .pub and .priv of tpm2_create, or what tpm2_encodeobject makes of them"
	doExpect  = "expected PEM TSS2 PRIVATE KEY or TSS KEY BLOB, the DER of one, a TssBlob, a bare TPM_KEY, the text of simple-tpm-pk11, or a pair of tpm2-tools"
)

func errUnknown() *NotKeyError { return &NotKeyError{Do: doExpect} }

func errPrivateKey(format string) *NotKeyError {
	return &NotKeyError{What: "a private key (" + format + ")", Do: doWrap, PrivateKey: true}
}

func errECKey(format string) *NotKeyError {
	return &NotKeyError{What: "a private key (" + format + ")", Do: doWrapEC, PrivateKey: true}
}

func errOtherKey(kind string) *NotKeyError {
	return &NotKeyError{What: "a private key (" + kind + ")", Do: doNew}
}

func errTrousersStore() *NotKeyError {
	return &NotKeyError{What: "a key store of trousers (system.data)", Do: "give a key file of its own, such as create_tpm_key wrote"}
}

func errEmpty() *NotKeyError {
	return &NotKeyError{What: "an empty file", Do: "find a copy that has its contents"}
}

func errPublic(what string) *NotKeyError { return &NotKeyError{What: what, Do: doPublic} }

// isTrousersStore reports whether b begins like trousers' file of registered keys: a version, the
// number of keys in host byte order, and the SRK's UUID. With one key, a TPM_KEY begins the same
// way.
func isTrousersStore(b []byte) bool {
	return len(b) > 20 && b[0] == 1 && bytes.Equal(b[2:5], make([]byte, 3)) &&
		bytes.Equal(b[5:20], make([]byte, 15)) && b[20] == 1
}

// describePEM says what another type of PEM block is.
func describePEM(p pemBlock) *NotKeyError {
	label := string(p.label[:min(len(p.label), 40)])
	switch label {
	case "RSA PRIVATE KEY":
		if bytes.Contains(p.body, []byte("ENCRYPTED")) {
			return errPrivateKey("PKCS #1, encrypted")
		}
		return errPrivateKey("PKCS #1")
	case "ENCRYPTED PRIVATE KEY":
		return errPrivateKey("PKCS #8, encrypted")
	case "PRIVATE KEY":
		return describePKCS8(p)
	case "EC PRIVATE KEY", "EC PARAMETERS":
		return errECKey("EC")
	case "DSA PRIVATE KEY":
		return errOtherKey("DSA")
	case "OPENSSH PRIVATE KEY":
		return &NotKeyError{What: "a private key (OpenSSH)", Do: doOpenSSH}
	case "CERTIFICATE", "X509 CERTIFICATE", "TRUSTED CERTIFICATE":
		return errPublic("a certificate")
	case "CERTIFICATE REQUEST", "NEW CERTIFICATE REQUEST":
		return errPublic("a certificate request")
	case "PUBLIC KEY", "RSA PUBLIC KEY":
		return errPublic("a public key")
	}
	if strings.HasSuffix(label, "PRIVATE KEY") {
		return errOtherKey(fmt.Sprintf("%q", label))
	}
	return &NotKeyError{What: fmt.Sprintf("a PEM file of type %q", label), Do: doExpect}
}

// describePKCS8 finds the algorithm of a PKCS #8 block in its first 24 bytes. It decodes no more,
// because a private key follows.
func describePKCS8(p pemBlock) *NotKeyError {
	_, text := cutHeaders(p.body)
	line, _, _ := bytes.Cut(bytes.TrimLeft(text, "\r\n"), []byte("\n"))
	line = trimLine(line)
	line = line[:min(len(line), 32)&^3]
	der, err := base64.StdEncoding.AppendDecode(nil, line)
	defer clear(der)
	if err == nil {
		if e := describeDER(der); e.What != "" {
			return e
		}
	}
	return errPrivateKey("PKCS #8")
}

// Object identifiers in DER, without tag and length.
var (
	oidRSA = []byte{0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01} // 1.2.840.113549.1.1.1
	oidPSS = []byte{0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0a} // 1.2.840.113549.1.1.10
	oidEC  = []byte{0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01}             // 1.2.840.10045.2.1
)

// savedContext is the beginning of a saved context file of tpm2-tools.
var savedContext = []byte{0xba, 0xdc, 0xc0, 0xde}

// describeDER says what a binary file is. It looks only at the first elements of the SEQUENCE, so
// it also recognises a truncated file.
func describeDER(b []byte) *NotKeyError {
	if bytes.HasPrefix(b, savedContext) {
		return &NotKeyError{What: "a saved context of tpm2-tools (.ctx), which lasts until the TPM restarts", Do: doContext}
	}
	tag, size, _, ok := derHeader(b)
	if !ok || tag != asn1.SEQUENCE {
		return errUnknown()
	}
	s := cryptobyte.String(b[size:])
	first, body, whole := nextElement(&s)
	second, inner, _ := nextElement(&s)
	third, _, _ := nextElement(&s)
	switch first {
	case asn1.INTEGER:
		return describeInteger(body, second, inner, third)
	case asn1.SEQUENCE:
		return describeSequence(body, second, whole)
	}
	return errUnknown()
}

// nextElement reads an element. If the element is cut off, it returns the rest as contents and ok
// is false. At the end of s the tag is 0.
func nextElement(s *cryptobyte.String) (tag asn1.Tag, body cryptobyte.String, ok bool) {
	tag, size, length, ok := derHeader(*s)
	if !ok {
		*s = nil
		return 0, nil, false
	}
	body = (*s)[size:]
	if uint64(length) > uint64(len(body)) {
		*s = nil
		return tag, body, false
	}
	*s = body[length:]
	return tag, body[:length], true
}

// describeInteger identifies DER files that begin with an INTEGER: a version, or the modulus of a
// public key.
func describeInteger(value cryptobyte.String, second asn1.Tag, inner cryptobyte.String, third asn1.Tag) *NotKeyError {
	switch {
	case len(value) >= minKeyLength/8 && second == asn1.INTEGER && third == 0:
		return errPublic("a public key")
	case len(value) != 1:
		return errUnknown()
	case value[0] == 3 && second == asn1.SEQUENCE:
		return &NotKeyError{What: "a PKCS #12 file", Do: "if it has an RSA key, take that out with openssl pkcs12 -nocerts and wrap it"}
	case value[0] > 1:
		return errUnknown()
	case second == asn1.INTEGER && len(inner) > 4:
		return errPrivateKey("PKCS #1, DER")
	case second == asn1.SEQUENCE:
		tag, oid, ok := nextElement(&inner)
		if tag != asn1.OBJECT_IDENTIFIER || !ok {
			return errUnknown()
		}
		return describeAlgorithm(oid)
	case second == asn1.OCTET_STRING && value[0] == 1:
		return errECKey("EC, DER")
	}
	return errUnknown()
}

// describeAlgorithm describes a PKCS #8 private key by its algorithm.
func describeAlgorithm(oid []byte) *NotKeyError {
	switch {
	case bytes.Equal(oid, oidRSA):
		return errPrivateKey("PKCS #8")
	case bytes.Equal(oid, oidPSS):
		return &NotKeyError{What: "a private key (PKCS #8, RSA for PSS only)", Do: "TPMs do not hold a key to PSS as its file does"}
	case bytes.Equal(oid, oidEC):
		return errECKey("PKCS #8, EC")
	}
	return errOtherKey("PKCS #8, neither RSA nor EC")
}

// describeSequence identifies DER files that begin with a SEQUENCE. body is its contents, and
// second is the tag of the next element if it is complete.
func describeSequence(body cryptobyte.String, second asn1.Tag, whole bool) *NotKeyError {
	first, _, _ := nextElement(&body)
	switch {
	case first == asn1.OBJECT_IDENTIFIER && second == asn1.OCTET_STRING:
		return errPrivateKey("PKCS #8, encrypted")
	case first == asn1.OBJECT_IDENTIFIER && second == asn1.BIT_STRING:
		return errPublic("a public key")
	case first == asn1.Tag(0).ContextSpecific().Constructed():
		return errPublic("a certificate")
	case first != asn1.INTEGER || whole && second != asn1.SEQUENCE:
		return errUnknown()
	}
	// INTEGER, SEQUENCE: serial number and signature algorithm of an X.509 v1
	// certificate, or version and subject of a request.
	tag, inner, _ := nextElement(&body)
	if tag != asn1.SEQUENCE {
		return errUnknown()
	}
	if tag, _, _ := nextElement(&inner); tag == asn1.OBJECT_IDENTIFIER {
		return errPublic("a certificate")
	}
	return errPublic("a certificate request")
}
