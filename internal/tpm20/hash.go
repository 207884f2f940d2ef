package tpm20

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/google/go-tpm/tpm2"
)

// GeneratedValue is TPM_GENERATED_VALUE, with which every structure begins that a TPM makes and
// signs by itself. TPM 2.0 Library Part 2, section 6.2 (TPM_GENERATED).
const GeneratedValue = "\xffTCG"

// maxBuffer is how many bytes one command hashes. Every TPM takes that many. TCG PC Client
// Platform TPM Profile, section 4 (TPM_PT_INPUT_BUFFER).
const maxBuffer = 1024

// HashTicket has the TPM hash data, whose digest is digest, and returns the ticket that lets the
// loaded restricted key o sign the digest: a TPMT_TK_HASHCHECK. There is none for data that begin
// with GeneratedValue. More than 1024 bytes take a transient slot meanwhile.
//
// The ticket is of the owner's hierarchy: TPM2_Sign takes one of every hierarchy with every key,
// and the null hierarchy gives none. TPM 2.0 Library Part 3, section 15.4 (TPM2_Hash).
func (c *Conn) HashTicket(o *Object, alg tpm2.TPMIAlgHash, data, digest []byte) (ticket []byte, err error) {
	if len(data) > maxBuffer {
		return c.hashSequence(o, alg, data, digest)
	}
	params := appendSized(make([]byte, 0, 2+len(data)+2+4), data)
	params = binary.BigEndian.AppendUint16(params, uint16(alg))
	params = append(params, handleBytes(tpm2.TPMRHOwner)...)
	out, err := c.runPlain(tpm2.TPMCCHash, params)
	if err != nil {
		return nil, err
	}
	return c.ticketOf(tpm2.TPMCCHash, out, digest)
}

// hashSequence is HashTicket for data of any length. TPM 2.0 Library Part 3, sections 17.3
// (TPM2_HashSequenceStart), 17.4 (TPM2_SequenceUpdate) and 17.5 (TPM2_SequenceComplete). A forged
// reply with the handle of the key is refused: the empty secret of a sequence would cost the key a try.
func (c *Conn) hashSequence(o *Object, alg tpm2.TPMIAlgHash, data, digest []byte) (ticket []byte, err error) {
	noAuth := []byte{0, 0}
	out, err := c.runPlain(tpm2.TPMCCHashSequenceStart, binary.BigEndian.AppendUint16(noAuth, uint16(alg)))
	if err != nil {
		return nil, err
	}
	if len(out) != 4 || mustBeTransient(handleAt(out, 0)) != nil || handleAt(out, 0) == o.Handle {
		return nil, c.unanswered(false, malformed(tpm2.TPMCCHashSequenceStart, "%x is not the handle of a sequence", out))
	}
	sequence := &Object{Handle: handleAt(out, 0)}
	ticket, err = c.runSequence(sequence, data, digest)
	if err != nil { // the TPM has freed a complete one
		err = errors.Join(err, c.Flush(sequence.Handle))
	}
	return ticket, err
}

func (c *Conn) runSequence(sequence *Object, data, digest []byte) (ticket []byte, err error) {
	for ; len(data) > maxBuffer; data = data[maxBuffer:] {
		out, err := c.runAuthorized(tpm2.TPMCCSequenceUpdate, sequence, nil, nil, appendSized(nil, data[:maxBuffer]))
		if err != nil {
			return nil, err
		}
		if len(out) != 0 {
			return nil, c.unanswered(false, malformed(tpm2.TPMCCSequenceUpdate, "%d bytes of parameters, expected none", len(out)))
		}
	}
	params := append(appendSized(nil, data), handleBytes(tpm2.TPMRHOwner)...)
	out, err := c.runAuthorized(tpm2.TPMCCSequenceComplete, sequence, nil, nil, params)
	if err != nil {
		return nil, err
	}
	return c.ticketOf(tpm2.TPMCCSequenceComplete, out, digest)
}

// ticketOf returns the ticket in a reply:
//
//	outHash(2+n) tag(2) hierarchy(4) digest(2+n)
//
// TPM 2.0 Library Part 2, section 10.7.6 (TPMT_TK_HASHCHECK).
func (c *Conn) ticketOf(cc tpm2.TPMCC, out, digest []byte) ([]byte, error) {
	r := reader{b: out}
	hashed := r.sized()
	ticket := r.b
	tag := r.u16()
	r.u32()
	proof := r.sized()
	var err error
	switch {
	case !r.whole() || tpm2.TPMST(tag) != tpm2.TPMSTHashCheck:
		err = fmt.Errorf("%d bytes are not a valid digest with its ticket", len(out))
	case !bytes.Equal(hashed, digest):
		err = errors.New("its digest is not that of the data")
	case len(proof) == 0:
		err = errors.New("its ticket is empty")
	}
	if err != nil {
		return nil, c.unanswered(false, malformed(cc, "%w", err))
	}
	return bytes.Clone(ticket), nil
}
