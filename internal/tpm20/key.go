package tpm20

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/google/go-tpm/tpm2"
)

// Sign signs a digest with a loaded key. auth nil is the empty password. A restricted key needs the
// ticket of HashTicket for the digest; nil is none. Sign checks that the signature has the requested
// scheme, but does not verify it. TPM 2.0 Library Part 3, section 20.2 (TPM2_Sign).
func (c *Conn) Sign(o *Object, auth tpm2.Session, scheme tpm2.TPMTSigScheme, digest, ticket []byte) (*tpm2.TPMTSignature, error) {
	params := appendSized(make([]byte, 0, 96), digest)
	params, err := appendScheme(params, scheme)
	if err != nil {
		return nil, err
	}
	if ticket == nil {
		ticket = []byte(noTicket)
	}
	params = append(params, ticket...)
	out, err := c.runAuthorized(tpm2.TPMCCSign, o, auth, nil, params)
	if err != nil {
		return nil, err
	}
	signature, err := signatureOf(out)
	if err == nil && scheme.Scheme != 0 && scheme.Scheme != tpm2.TPMAlgNull && signature.SigAlg != scheme.Scheme {
		err = fmt.Errorf("a signature of scheme %#x where %#x was asked for", uint16(signature.SigAlg), uint16(scheme.Scheme))
	}
	if err != nil {
		return nil, c.unanswered(false, malformed(tpm2.TPMCCSign, "%w", err))
	}
	return signature, nil
}

// noTicket is a TPMT_TK_HASHCHECK for a digest that the TPM did not compute. TPM 2.0 Library Part
// 2, section 10.7.6 (TPMT_TK_HASHCHECK).
const noTicket = "\x80\x24\x40\x00\x00\x07\x00\x00"

// appendScheme appends a TPMT_SIG_SCHEME.
func appendScheme(b []byte, scheme tpm2.TPMTSigScheme) ([]byte, error) {
	var details *tpm2.TPMSSchemeHash
	var err error
	switch scheme.Scheme {
	case 0, tpm2.TPMAlgNull:
		return binary.BigEndian.AppendUint16(b, uint16(tpm2.TPMAlgNull)), nil
	case tpm2.TPMAlgRSASSA:
		details, err = scheme.Details.RSASSA()
	case tpm2.TPMAlgRSAPSS:
		details, err = scheme.Details.RSAPSS()
	case tpm2.TPMAlgECDSA:
		details, err = scheme.Details.ECDSA()
	default:
		err = fmt.Errorf("unsupported signature scheme %#x", uint16(scheme.Scheme))
	}
	if err != nil {
		return nil, err
	}
	b = binary.BigEndian.AppendUint16(b, uint16(scheme.Scheme))
	return binary.BigEndian.AppendUint16(b, uint16(details.HashAlg)), nil
}

// signatureOf reads a TPMT_SIGNATURE.
func signatureOf(b []byte) (*tpm2.TPMTSignature, error) {
	r := reader{b: b}
	s := &tpm2.TPMTSignature{SigAlg: tpm2.TPMAlgID(r.u16())}
	hash := tpm2.TPMAlgID(r.u16())
	switch s.SigAlg {
	case tpm2.TPMAlgRSASSA, tpm2.TPMAlgRSAPSS:
		s.Signature = tpm2.NewTPMUSignature(s.SigAlg, &tpm2.TPMSSignatureRSA{
			Hash: hash, Sig: tpm2.TPM2BPublicKeyRSA{Buffer: r.sized()},
		})
	case tpm2.TPMAlgECDSA:
		s.Signature = tpm2.NewTPMUSignature(s.SigAlg, &tpm2.TPMSSignatureECC{
			Hash:       hash,
			SignatureR: tpm2.TPM2BECCParameter{Buffer: r.sized()},
			SignatureS: tpm2.TPM2BECCParameter{Buffer: r.sized()},
		})
	default:
		return nil, fmt.Errorf("unsupported signature scheme %#x", uint16(s.SigAlg))
	}
	if !r.whole() {
		return nil, fmt.Errorf("%d bytes are not a valid signature", len(b))
	}
	return s, nil
}

// RSADecrypt decrypts with a loaded key, without a label. extra may have a session that encrypts
// the reply. With scheme TPM_ALG_NULL the result is the padded block, with or without its leading
// zeros. If the ciphertext does not fit the scheme, the TPM answers TPM_RC_VALUE; libtpms answers
// TPM_RC_FAILURE. TPM 2.0 Library Part 3, section 14.3 (TPM2_RSA_Decrypt).
func (c *Conn) RSADecrypt(o *Object, auth tpm2.Session, ciphertext []byte, scheme tpm2.TPMTRSADecrypt, extra ...tpm2.Session) ([]byte, error) {
	params := appendSized(nil, ciphertext)
	params = append(params, tpm2.Marshal(scheme)...)
	params = append(params, 0, 0) // no label
	return c.runOneSized(tpm2.TPMCCRSADecrypt, o, auth, extra, params)
}

// Unseal returns the data of a loaded sealed object. TPM 2.0 Library Part 3, section 12.7
// (TPM2_Unseal).
func (c *Conn) Unseal(o *Object, auth tpm2.Session, extra ...tpm2.Session) ([]byte, error) {
	return c.runOneSized(tpm2.TPMCCUnseal, o, auth, extra, nil)
}

// ECDHZGen multiplies a point by the private scalar of a loaded key, and returns the x coordinate
// of the result, padded to the curve's size. point is in the uncompressed form of SEC 1. TPM 2.0
// Library Part 3, section 14.5 (TPM2_ECDH_ZGen).
func (c *Conn) ECDHZGen(o *Object, auth tpm2.Session, point []byte, extra ...tpm2.Session) (x []byte, err error) {
	if o.Public == nil || o.Public.Type != tpm2.TPMAlgECC {
		return nil, fmt.Errorf("TPM2_ECDH_ZGen: this is no ECC key")
	}
	parms, err := o.Public.Parameters.ECCDetail()
	if err != nil {
		return nil, err
	}
	crv := curveOf(parms.CurveID)
	if crv.Curve == nil || len(point) != 1+2*crv.width || point[0] != 4 {
		return nil, fmt.Errorf("TPM2_ECDH_ZGen: %d bytes are not a point of a supported curve (curve %#x)", len(point), uint16(parms.CurveID))
	}
	in := appendSized(nil, point[1:1+crv.width])
	in = appendSized(in, point[1+crv.width:])
	out, err := c.runOneSized(tpm2.TPMCCECDHZGen, o, auth, extra, appendSized(nil, in))
	if err != nil {
		return nil, err
	}
	r := reader{b: out}
	px, py := r.sized(), r.sized()
	if !r.whole() {
		err = fmt.Errorf("%d bytes are not a valid point", len(out))
	} else {
		x, err = pointOf(parms.CurveID, px, py)
	}
	clear(out)
	if err != nil {
		return nil, c.unanswered(false, malformed(tpm2.TPMCCECDHZGen, "%w", err))
	}
	clear(x[1+crv.width:])
	return x[1 : 1+crv.width], nil
}

// runOneSized runs a command whose reply has one parameter, a TPM2B.
func (c *Conn) runOneSized(cc tpm2.TPMCC, o *Object, auth tpm2.Session, extra []tpm2.Session, params []byte) ([]byte, error) {
	out, err := c.runAuthorized(cc, o, auth, extra, params)
	if err != nil {
		return nil, err
	}
	data, err := unsized("parameter", out)
	if err != nil {
		return nil, c.unanswered(false, malformed(cc, "%w", err))
	}
	return data, nil
}

// Create creates an object under parent, with a secret and, for a sealed object, data. s
// authorizes the parent; it or a session in extra encrypts the secret and the data. Create returns
// a TPM2B_PRIVATE and a TPM2B_PUBLIC. It clears its copies of the secret and the data. TPM 2.0 Library Part 3,
// section 12.1 (TPM2_Create).
func (c *Conn) Create(parent *Object, s tpm2.Session, secret, data []byte, area tpm2.TPMTPublic, extra ...tpm2.Session) (private, public []byte, err error) {
	if !s.IsDecryption() && !slices.ContainsFunc(extra, tpm2.Session.IsDecryption) {
		return nil, nil, fmt.Errorf("TPM2_Create: the session does not encrypt what is secret")
	}
	template := tpm2.Marshal(area)
	sensitive := 2 + len(secret) + 2 + len(data)
	params := make([]byte, 0, 2+sensitive+2+len(template)+2+4)
	defer func() { clear(params[:cap(params)]) }()
	params = binary.BigEndian.AppendUint16(params, uint16(sensitive))
	params = appendSized(params, secret)
	params = appendSized(params, data)
	params = appendSized(params, template)
	params = append(params, 0, 0)       // no outsideInfo
	params = append(params, 0, 0, 0, 0) // no PCRs
	out, err := c.runAuthorized(tpm2.TPMCCCreate, parent, s, extra, params)
	if err != nil {
		return nil, nil, err
	}
	r := reader{b: out}
	inPrivate, inPublic := r.sized(), r.sized()
	r.sized() // creationData
	r.sized() // creationHash
	r.next(2 + 4)
	r.sized() // creationTicket
	if !r.whole() {
		return nil, nil, c.unanswered(false, malformed(tpm2.TPMCCCreate, "%d bytes are not a valid created object", len(out)))
	}
	return appendSized(nil, inPrivate), appendSized(nil, inPublic), nil
}

// CheckAuth checks the authorization for a loaded key. It sends a command with parameters that
// the TPM refuses; the TPM checks them after the authorization, so an error about a parameter
// means that the authorization was accepted. TPM 2.0 Library Part 3, section 5 (Command
// Processing).
func (c *Conn) CheckAuth(command tpm2.TPMCC, o *Object, auth tpm2.Session, params []byte, extra ...tpm2.Session) error {
	_, err := c.runAuthorized(command, o, auth, extra, params)
	var about tpm2.TPMFmt1Error
	if !errors.As(err, &about) {
		return err
	}
	handle, _ := about.Handle()
	if session, _ := about.Session(); handle || session {
		return err
	}
	return nil
}
