package tpm12_test

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha1"
	"encoding/binary"
	"errors"
	"testing"

	"maclef/internal/tpm12"
)

// FuzzCapability: whatever a TPM says of itself is read, or refused as malformed.
// The seeds are what swtpm says.
func FuzzCapability(f *testing.F) {
	for _, seed := range []string{
		"\x00\x30\x01\x02\x12\x9e\x00\x02\x03IBM\x00\x00\x00",
		"\x00\x1f\x00\x01\x00\x00\x00\x01\x00\x00\x00\x01\x00\x00\x00\x00\x00\x01\x00\x00\x00\x00",
		"\x00\x20\x00\x00\x00\x00\x00", "\x01", "\x00\x00\x00\x14", "\x00\x00", "\x00\x01\xa2\xd9\x59\x0a",
		"\x00\x37\x00\x00\x00\x00\x05\x00\x39\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x00",
		"\x00\x38\x01\x00\x39\x00\x00\x00\x01\x00\x00\x00\x00",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		body := binary.BigEndian.AppendUint32(nil, uint32(len(data)))
		c := tpm12.New(canned(reply(0xc4, 14+len(data), 0, append(body, data...)...)))
		keys, err := c.LoadedKeys()
		if err == nil && len(data) != 2+4*len(keys) {
			t.Errorf("%d bytes are %d handles", len(data), len(keys))
		}
		if sessions, err := c.Sessions(); err == nil && len(sessions) != len(keys) {
			t.Errorf("%d sessions, %d keys", len(sessions), len(keys))
		}
		if info, err := c.DictionaryAttack(); err == nil && !info.Known && (info.Count != 0 || info.Threshold != 0) {
			t.Errorf("numbers from nowhere: %+v", info)
		}
		if v, err := c.Version(); err == nil && !bytes.Contains(data, v.VendorID[:]) {
			t.Errorf("vendor from nowhere: %+v", v)
		}
		c.Flags()
		c.Owned()
		c.KeySlots()
	})
}

// A prover is a TPM that knows the well-known secret: it gives one answer to
// everything, with authorization sessions around it that are right, or wrong on
// purpose.
type prover struct {
	t        testing.TB
	params   []byte // after the header, handles first
	more     byte   // continueAuthSession
	forge    bool   // the HMAC is wrong
	shared   []byte // OSAP's shared secret, nil in an OIAP session
	nonce    [20]byte
	attested int // answers with an HMAC
}

// Lengths of what surrounds the parameters of an authorized command: TPM Main
// Part 2, section 6 and Part 1 (authorization protocols).
const (
	header = 10
	auth   = 45 // authHandle(4) nonceOdd(20) continue(1) inAuth(20)
)

func (p *prover) Send(cmd []byte) ([]byte, error) {
	switch ordinal := binary.BigEndian.Uint32(cmd[6:]); {
	case ordinal == 0x0a: // TPM_OIAP
		p.shared = nil
		return reply(0xc4, header+24, 0, append([]byte{2, 0, 0, 1}, p.nonce[:]...)...), nil
	case ordinal == 0x0b: // TPM_OSAP: type(2) value(4) nonceOddOSAP(20)
		m := hmac.New(sha1.New, make([]byte, 20))
		m.Write(p.nonce[:])
		m.Write(cmd[header+6:])
		p.shared = m.Sum(nil)
		return reply(0xc4, header+44, 0, append(append([]byte{2, 0, 0, 2}, p.nonce[:]...), p.nonce[:]...)...), nil
	case ordinal == 0xba: // TPM_FlushSpecific
		return reply(0xc4, header, 0), nil
	case binary.BigEndian.Uint16(cmd) == 0xc2 && len(cmd) >= header+auth:
		return p.attest(ordinal, cmd[len(cmd)-auth:]), nil
	}
	return reply(0xc4, header+len(p.params), 0, p.params...), nil
}

// attest answers an authorized command.
func (p *prover) attest(ordinal uint32, session []byte) []byte {
	p.attested++
	covered := p.params
	if ordinal == 0x41 { // TPM_LoadKey2: an HMAC does not cover handles
		covered = covered[min(4, len(covered)):]
	}
	h := sha1.New()
	h.Write(make([]byte, 4))
	h.Write(binary.BigEndian.AppendUint32(nil, ordinal))
	h.Write(covered)
	key := p.shared
	if key == nil {
		key = make([]byte, 20)
	}
	m := hmac.New(sha1.New, key)
	m.Write(h.Sum(nil))
	m.Write(p.nonce[:])
	m.Write(session[4:24])
	m.Write([]byte{p.more})
	mac := m.Sum(nil)
	if p.forge {
		mac[7] ^= 1
	}
	body := append(bytes.Clone(p.params), p.nonce[:]...)
	body = append(append(body, p.more), mac...)
	return reply(0xc5, header+len(body), 0, body...)
}

// FuzzAuthorizedReply: a reply with the right HMAC is read, or is malformed. A reply with a
// wrong one always gives an error, but never a *tpm12.Error.
func FuzzAuthorizedReply(f *testing.F) {
	f.Add([]byte{}, byte(0), false)
	f.Add([]byte{0x12, 0x34, 0x56, 0x78}, byte(1), false)
	f.Add([]byte{0, 0, 0, 3, 'a', 'b', 'c'}, byte(0), false)
	f.Add([]byte{0, 0, 0, 3, 'a', 'b', 'c'}, byte(1), true)
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 0}, byte(255), false)
	f.Fuzz(func(t *testing.T, params []byte, more byte, forge bool) {
		if len(params) > 3900 {
			return
		}
		for name, call := range calls {
			p := &prover{t: t, params: params, more: more, forge: forge}
			err := call(tpm12.New(p))
			var refused *tpm12.Error
			if errors.As(err, &refused) {
				t.Errorf("%s: nobody refused: %v", name, err)
			}
			if forge && p.attested > 0 && err == nil {
				t.Errorf("%s: took a forged answer", name)
			}
		}
	})
}
