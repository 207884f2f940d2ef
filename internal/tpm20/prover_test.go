package tpm20_test

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"testing"

	"github.com/google/go-tpm/tpm2"

	"maclef/internal/tpm20"
)

// A prover is a TPM that gives one answer to everything, in sessions neither salted
// nor bound, whose HMAC is right, or wrong on purpose.
type prover struct {
	body    []byte // handles and parameters
	handles int    // bytes of the former
	more    byte   // the attributes it answers with
	forge   bool
	proven  int // answers with an HMAC
}

func (p *prover) Send(cmd []byte) ([]byte, error) {
	cc := binary.BigEndian.Uint32(cmd[6:])
	if cc == ccStart {
		return reply(tpm2.TPMSTNoSessions, 0, append([]byte{2, 0, 0, 0}, tpm2b(make([]byte, 16))...)...), nil
	}
	if cc == ccFlush {
		return errorReply(0), nil
	}
	if binary.BigEndian.Uint16(cmd) != uint16(tpm2.TPMSTSessions) {
		return reply(tpm2.TPMSTNoSessions, 0, p.body...), nil
	}
	p.proven++
	n := min(p.handles, len(p.body))
	params := p.body[n:]
	nonceTPM, nonceCaller := bytes.Repeat([]byte{7}, 16), cmd[10+4+4+4+2:][:16]
	digest := sha256.Sum256(append(binary.BigEndian.AppendUint32(make([]byte, 4), cc), params...))
	m := hmac.New(sha256.New, nil)
	for _, part := range [][]byte{digest[:], nonceTPM, nonceCaller, {p.more}} {
		m.Write(part)
	}
	mac := m.Sum(nil)
	if p.forge {
		mac[7] ^= 1
	}
	out := binary.BigEndian.AppendUint32(bytes.Clone(p.body[:n]), uint32(len(params)))
	out = append(append(append(out, params...), tpm2b(nonceTPM)...), p.more)
	return reply(tpm2.TPMSTSessions, 0, append(out, tpm2b(mac)...)...), nil
}

// proven are commands in a session.
var proven = map[string]func(*tpm20.Conn, tpm2.Session) error{
	"Sign": func(c *tpm20.Conn, s tpm2.Session) error {
		_, err := c.Sign(tpm20.Hierarchy(1), s, ecdsaSHA256, message[:], nil)
		return err
	},
	"Run": func(c *tpm20.Conn, s tpm2.Session) error {
		_, err := tpm20.Run(c, tpm2.Sign{KeyHandle: tpm20.Hierarchy(1).Auth(s), InScheme: ecdsaSHA256,
			Validation: tpm2.TPMTTKHashCheck{Tag: tpm2.TPMSTHashCheck}})
		return err
	},
	"Unseal": func(c *tpm20.Conn, s tpm2.Session) error { _, err := c.Unseal(tpm20.Hierarchy(1), s); return err },
	"CreatePrimary": func(c *tpm20.Conn, s tpm2.Session) error {
		_, err := c.CreatePrimary(tpm2.TPMRHOwner, s, storage(false))
		return err
	},
	"Create": func(c *tpm20.Conn, s tpm2.Session) error {
		_, err := tpm20.Run(c, tpm2.Create{ParentHandle: tpm20.Hierarchy(1).Auth(s), InPublic: tpm2.New2B(eccKey)})
		return err
	},
}

// FuzzAuthorizedReply: a reply with the right HMAC is read, or is malformed. A reply with a
// wrong one always gives an error, but never a *tpm20.Error.
func FuzzAuthorizedReply(f *testing.F) {
	signature := []byte{0, 0x18, 0, 0x0b, 0, 1, 5, 0, 1, 6}
	f.Add(signature, byte(1), false)
	f.Add(signature, byte(0), false)
	f.Add(signature, byte(1), true)
	f.Add(signature, byte(0xff), false)
	f.Add([]byte{0, 3, 'a', 'b', 'c'}, byte(0x41), false)
	f.Add([]byte{0x80, 0, 0, 5, 0, 0}, byte(1), false)
	f.Add([]byte{}, byte(1), true)
	f.Fuzz(func(t *testing.T, body []byte, more byte, forge bool) {
		if len(body) > 3900 {
			return
		}
		for name, call := range proven {
			for _, enc := range []tpm20.Encrypt{0, tpm20.EncryptOut} {
				p := &prover{body: body, more: more, forge: forge}
				if name == "CreatePrimary" {
					p.handles = 4
				}
				conn := tpm20.New(p)
				s, err := conn.StartHMAC(nil, nil, nil)
				if err != nil {
					t.Fatal(err)
				}
				err = call(conn, s.For(nil, enc))
				if isRefused(err) {
					t.Errorf("%s: nobody refused: %v", name, err)
				}
				var unanswered *tpm20.Unanswered
				if forge && (p.proven != 1 || !errors.As(err, &unanswered) || s.Alive()) {
					t.Errorf("%s: took a forged answer: %v", name, err)
				}
				if err == nil && s.Alive() != (more&1 == 1) {
					t.Errorf("%s: alive %v", name, s.Alive())
				}
			}
		}
	})
}

// The prover is one: a right answer is taken.
func TestProver(t *testing.T) {
	t.Parallel()
	for name, body := range map[string][]byte{
		"Sign": {0, 0x18, 0, 0x0b, 0, 1, 5, 0, 1, 6}, "Run": {0, 0x18, 0, 0x0b, 0, 1, 5, 0, 1, 6}, "Unseal": {0, 1, 9},
	} {
		conn := tpm20.New(&prover{body: body, more: 1})
		if err := proven[name](conn, mustStart(conn.StartHMAC(nil, nil, nil)).For(nil, 0)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}
