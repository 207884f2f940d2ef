package tpm20

import (
	"encoding/binary"
	"fmt"

	"github.com/google/go-tpm/tpm2"
)

// Create makes an object under its parent, with a secret and, where it is sealed, data;
// s authorizes the parent and encrypts both. It returns a TPM2B_PRIVATE and a
// TPM2B_PUBLIC. No copy of the secret and the data is left in memory that is not the
// caller's. Part 3, section 12.1 (TPM2_Create).
func (c *Conn) Create(parent *Object, s tpm2.Session, secret, data []byte, area tpm2.TPMTPublic) (private, public []byte, err error) {
	if !s.IsDecryption() {
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
	out, err := c.transform(tpm2.TPMCCCreate, parent, s, nil, params)
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
		return nil, nil, c.unanswered(false, malformed(tpm2.TPMCCCreate, "%d bytes are no created object", len(out)))
	}
	return sized(inPrivate), sized(inPublic), nil
}
