package tpm20

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/google/go-tpm/tpm2"
)

// runPlain runs a command without sessions. params are its marshalled handles and parameters; it
// returns those of the reply.
//
//	tag(2) size(4) commandCode(4) handles params
//	tag(2) size(4) responseCode(4) handles params
func (c *Conn) runPlain(cc tpm2.TPMCC, params []byte) (out []byte, err error) {
	x := c.begin(cc)
	msg := binary.BigEndian.AppendUint16(c.buf[:0], uint16(tpm2.TPMSTNoSessions))
	msg = binary.BigEndian.AppendUint32(msg, uint32(headerSize+len(params)))
	msg = binary.BigEndian.AppendUint32(msg, uint32(cc))
	c.buf = append(msg, params...)
	err = x.run(func() error {
		_, err := x.Send(c.buf)
		return err
	})
	return x.body, err
}

// runAuthorized runs a command on one object with marshalled parameters, and returns the reply's
// parameters. It does the same as go-tpm's Execute, but faster, for frequent commands.
//
//	tag(2) size(4) commandCode(4) handle(4) authorizationSize(4) authorizations params
//	tag(2) size(4) responseCode(4) parameterSize(4) params authorizations
func (c *Conn) runAuthorized(cc tpm2.TPMCC, o *Object, auth tpm2.Session, extra []tpm2.Session, params []byte) (out []byte, err error) {
	x := c.begin(cc)
	x.secret = isPassword(auth)
	t := authorizedCommand{x: x, o: o, params: params, sessions: append([]tpm2.Session{auth}, extra...)}
	err = x.run(func() error {
		msg, err := t.marshal(c.buf[:0])
		if err != nil {
			return err
		}
		c.buf = msg
		if _, err = x.Send(msg); err == nil {
			out, err = t.unmarshal()
		}
		return err
	})
	if x.secret {
		clear(c.buf)
	}
	if err != nil {
		return nil, err
	}
	return out, nil
}

type authorizedCommand struct {
	x        *exchange
	o        *Object
	params   []byte
	sessions []tpm2.Session // nil is the empty password
}

// Authorizations with the empty password. TPM 2.0 Library Part 2, sections 10.13.2
// (TPMS_AUTH_COMMAND) and 10.13.3 (TPMS_AUTH_RESPONSE).
const (
	emptyPassword      = "\x40\x00\x00\x09\x00\x00\x00\x00\x00"
	emptyPasswordReply = "\x00\x00\x01\x00\x00"
)

func (t *authorizedCommand) marshal(b []byte) ([]byte, error) {
	nonces, err := t.prepare()
	if err != nil {
		return nil, err
	}
	b = binary.BigEndian.AppendUint16(b, uint16(tpm2.TPMSTSessions))
	b = binary.BigEndian.AppendUint32(b, 0) // set below
	b = binary.BigEndian.AppendUint32(b, uint32(t.x.cc))
	b = binary.BigEndian.AppendUint32(b, uint32(t.o.Handle))
	b = binary.BigEndian.AppendUint32(b, 0) // set below
	start := len(b)
	names := []tpm2.TPM2BName{t.o.Name}
	for i, s := range t.sessions {
		if s == nil {
			b = append(b, emptyPassword...)
			continue
		}
		auth, err := s.Authorize(t.x.cc, t.params, nonces, names, i)
		if err != nil {
			return nil, err
		}
		nonces = nil // only the first session's HMAC covers them
		b = binary.BigEndian.AppendUint32(b, uint32(auth.Handle))
		b = appendSized(b, auth.Nonce.Buffer)
		b = append(b, attributesByte(auth.Attributes))
		b = appendSized(b, auth.Authorization.Buffer)
	}
	binary.BigEndian.PutUint32(b[start-4:], uint32(len(b)-start))
	b = append(b, t.params...)
	binary.BigEndian.PutUint32(b[2:], uint32(len(b)))
	return b, nil
}

// prepare initializes the sessions and encrypts the first parameter. It returns the nonces of the
// sessions that decrypt and encrypt, which the first session's HMAC covers. TPM 2.0 Library Part
// 1, section 19.6.5.
func (t *authorizedCommand) prepare() (nonces []byte, err error) {
	var encrypts, decrypts []byte
	for i, s := range t.sessions {
		if s == nil {
			continue
		}
		if err := errors.Join(s.Init(t.x.conn.TPM), s.NewNonceCaller()); err != nil {
			return nil, err
		}
		if s.IsDecryption() {
			first, err := firstSized(t.params)
			if err != nil {
				return nil, errors.New("the command has no parameter to encrypt")
			}
			if err := s.Encrypt(first); err != nil {
				return nil, err
			}
		}
		switch {
		case i == 0:
		case s.IsDecryption():
			decrypts = s.NonceTPM().Buffer // once, even if the session also encrypts
		case s.IsEncryption():
			encrypts = s.NonceTPM().Buffer
		}
	}
	return append(decrypts[:len(decrypts):len(decrypts)], encrypts...), nil
}

// unmarshal checks the authorizations of the reply and decrypts its first parameter.
func (t *authorizedCommand) unmarshal() ([]byte, error) {
	r := reader{b: t.x.body}
	size := r.u32()
	params := r.next(int(size))
	if r.bad {
		return nil, fmt.Errorf("%d bytes are not a valid reply", len(t.x.body))
	}
	for i, s := range t.sessions {
		nonce, attributes, hmac := r.sized(), r.next(1), r.sized()
		if r.bad {
			return nil, errors.New("an authorization is missing")
		}
		if s == nil {
			if len(nonce)+len(hmac) != 0 || attributes[0] != emptyPasswordReply[2] {
				return nil, errors.New("its authorization is not that of a password")
			}
			continue
		}
		a, ok := attributesOf(attributes[0])
		if !ok {
			return nil, errors.New("its authorization has unknown attributes")
		}
		err := s.Validate(0, t.x.cc, params, nil, i, &tpm2.TPMSAuthResponse{
			Nonce: tpm2.TPM2BNonce{Buffer: nonce}, Attributes: a, Authorization: tpm2.TPM2BData{Buffer: hmac},
		})
		if err != nil {
			return nil, err
		}
	}
	if len(r.b) != 0 {
		return nil, fmt.Errorf("%d bytes after its end", len(r.b))
	}
	return params, t.decrypt(params)
}

func (t *authorizedCommand) decrypt(params []byte) error {
	for _, s := range t.sessions {
		if s == nil || !s.IsEncryption() {
			continue
		}
		first, err := firstSized(params)
		if err != nil {
			return err
		}
		if err := s.Decrypt(first); err != nil {
			return err
		}
	}
	return nil
}

// firstSized returns the contents of the first parameter, which is a TPM2B.
func firstSized(params []byte) ([]byte, error) {
	r := reader{b: params}
	if first := r.sized(); !r.bad {
		return first, nil
	}
	return nil, errors.New("its first parameter is not a sized one")
}

// appendSized appends data as a TPM2B, with its length in front as two bytes.
func appendSized(b, data []byte) []byte {
	return append(binary.BigEndian.AppendUint16(b, uint16(len(data))), data...)
}

// A reader reads untrusted bytes. After a read past the end it is bad, and returns zero values.
type reader struct {
	b   []byte
	bad bool
}

func (r *reader) next(n int) []byte {
	if r.bad = r.bad || n < 0 || n > len(r.b); r.bad {
		return nil
	}
	var head []byte
	head, r.b = r.b[:n:n], r.b[n:]
	return head
}

func (r *reader) u16() uint16 {
	if b := r.next(2); b != nil {
		return binary.BigEndian.Uint16(b)
	}
	return 0
}

func (r *reader) u32() uint32 {
	if b := r.next(4); b != nil {
		return binary.BigEndian.Uint32(b)
	}
	return 0
}

func (r *reader) sized() []byte { return r.next(int(r.u16())) }

// whole reports whether all reads succeeded and no bytes are left.
func (r *reader) whole() bool { return !r.bad && len(r.b) == 0 }
