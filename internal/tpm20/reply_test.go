package tpm20_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/google/go-tpm/tpm2"

	"maclef/internal/tpm20"
	"maclef/internal/tpmtest"
)

// A canned is a TPM that gives one answer to everything.
type canned []byte

func (c canned) Send([]byte) ([]byte, error) { return bytes.Clone(c), nil }

// answering is a Conn to such a TPM, which it asks only once.
func answering(reply []byte) *tpm20.Conn {
	conn := tpm20.New(canned(reply))
	conn.Patience = 0
	return conn
}

// A call is one command that this package sends, and what a real TPM answered.
type call struct {
	name  string
	do    func(*tpm20.Conn) error
	reply []byte
}

// recorded are all of them.
func recorded(t testing.TB) []call {
	conn, tap := open(t)
	parent := primary(t, conn, false)
	ecc := create(t, conn, parent, eccKey, "")
	private, public := createBlobs(t, conn, parent, eccKey, "", nil)
	saved, err := conn.SaveContext(ecc)
	if err != nil {
		t.Fatal(err)
	}
	conn.Sign(ecc, nil, ecdsaSHA256, message[:], nil) // lets it test itself
	conn.EndSessions()
	calls := append(keyCalls(parent, ecc, private, public), tpmCalls()...)
	calls = append(calls, call{name: "LoadContext", do: func(c *tpm20.Conn) error { _, err := c.LoadContext(saved, ecc); return err }})
	for i := range calls {
		tap.Reset()
		if err := calls[i].do(conn); err != nil {
			t.Fatalf("%s: %v", calls[i].name, err)
		}
		calls[i].reply = tap.Exchanges()[0].Response
		conn.Flush(0x80000002) // what it has loaded
		conn.EndSessions()
	}
	return calls
}

func keyCalls(parent, key *tpm20.Object, private, public []byte) []call {
	return []call{
		{name: "CreatePrimary", do: func(c *tpm20.Conn) error {
			_, err := c.CreatePrimary(tpm2.TPMRHOwner, nil, storage(false))
			return err
		}},
		{name: "Load", do: func(c *tpm20.Conn) error { _, err := c.Load(parent, nil, private, public); return err }},
		{name: "ReadPublic", do: func(c *tpm20.Conn) error { _, err := c.ReadPublic(key.Handle); return err }},
		{name: "SaveContext", do: func(c *tpm20.Conn) error { _, err := c.SaveContext(key); return err }},
		{name: "Sign", do: func(c *tpm20.Conn) error { _, err := c.Sign(key, nil, ecdsaSHA256, message[:], nil); return err }},
		{name: "HashTicket", do: func(c *tpm20.Conn) error {
			digest := sha256.Sum256([]byte("bonjour"))
			_, err := c.HashTicket(key, tpm2.TPMAlgSHA256, []byte("bonjour"), digest[:])
			return err
		}},
		{name: "ECDHZGen", do: func(c *tpm20.Conn) error {
			point, err := key.Public.Unique.ECC()
			if err != nil {
				return err
			}
			_, err = c.ECDHZGen(key, nil, append(append([]byte{4}, point.X.Buffer...), point.Y.Buffer...))
			return err
		}},
		{name: "Create", do: func(c *tpm20.Conn) error {
			_, err := tpm20.Run(c, tpm2.Create{ParentHandle: parent.Auth(nil), InPublic: tpm2.New2B(eccKey)})
			return err
		}},
		{name: "StartHMAC", do: func(c *tpm20.Conn) error { _, err := c.StartHMAC(nil, nil, nil); return err }},
		{name: "StartPolicy", do: func(c *tpm20.Conn) error { _, err := c.StartPolicy(tpm2.TPMAlgSHA256, parent); return err }},
	}
}

func tpmCalls() []call {
	return []call{
		{name: "Shutdown", do: func(c *tpm20.Conn) error { return c.Shutdown() }},
		{name: "GetRandom", do: func(c *tpm20.Conn) error { _, err := c.GetRandom(20); return err }},
		{name: "Properties", do: func(c *tpm20.Conn) error { _, err := c.Properties(tpm2.TPMPTPermanent); return err }},
		{name: "Handles", do: func(c *tpm20.Conn) error { _, err := c.Handles(0x80000000); return err }},
		{name: "Algorithms", do: func(c *tpm20.Conn) error { _, err := c.Algorithms(); return err }},
		{name: "Curves", do: func(c *tpm20.Conn) error { _, err := c.Curves(); return err }},
		{name: "Commands", do: func(c *tpm20.Conn) error { _, err := c.Commands(); return err }},
		{name: "PCRRead", do: func(c *tpm20.Conn) error { _, err := c.PCRRead(tpm2.TPMAlgSHA256, []int{0, 23}); return err }},
		{name: "TestParms", do: func(c *tpm20.Conn) error {
			return c.TestParms(tpm2.TPMTPublicParms{Type: tpm2.TPMAlgECC, Parameters: eccKey.Parameters})
		}},
	}
}

// resized sets the size in a reply's header.
func resized(b []byte) []byte {
	b = bytes.Clone(b)
	binary.BigEndian.PutUint32(b[2:], uint32(len(b)))
	return b
}

// reparametered replaces a reply's parameters, and sets all sizes.
func reparametered(b []byte, handles int, change func([]byte) []byte) []byte {
	at := 10 + handles
	if binary.BigEndian.Uint16(b) == uint16(tpm2.TPMSTNoSessions) {
		return resized(append(bytes.Clone(b[:at]), change(bytes.Clone(b[at:]))...))
	}
	n := int(binary.BigEndian.Uint32(b[at:]))
	params := change(bytes.Clone(b[at+4 : at+4+n]))
	out := binary.BigEndian.AppendUint32(bytes.Clone(b[:at]), uint32(len(params)))
	return resized(append(append(out, params...), b[at+4+n:]...))
}

// handlesIn is how many bytes of handles lead a reply's parameters.
func handlesIn(name string) int {
	switch name {
	case "CreatePrimary", "Load", "LoadContext", "StartHMAC", "StartPolicy":
		return 4
	}
	return 0
}

// A reply that is cut or goes on, in any place, is no answer.
func TestRepliesOfTheWrongLength(t *testing.T) {
	tpmtest.Long(t, tpmtest.Stress)
	t.Parallel()
	for _, c := range recorded(t) {
		if err := c.do(answering(c.reply)); err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		wrong := map[string][]byte{"empty": {}, "longer": resized(append(bytes.Clone(c.reply), 0))}
		for n := 0; n < len(c.reply); n += 1 + n/50 {
			wrong["cut"] = c.reply[:n]
			if n >= 10 {
				wrong["cut and resized"] = resized(c.reply[:n])
			}
			handles := handlesIn(c.name)
			wrong["parameters cut"] = reparametered(c.reply, handles, func(p []byte) []byte { return p[:max(0, len(p)-1-n)] })
			wrong["parameters longer"] = reparametered(c.reply, handles, func(p []byte) []byte { return append(p, make([]byte, 1+n%4)...) })
			for how, reply := range wrong {
				if bytes.Equal(reply, c.reply) {
					continue
				}
				var unanswered *tpm20.Unanswered
				if err := c.do(answering(reply)); !errors.As(err, &unanswered) {
					t.Errorf("%s, %s: %v: %x", c.name, how, err, reply)
				}
			}
		}
	}
}

// Replies that are no TPM's.
func TestGarbage(t *testing.T) {
	t.Parallel()
	for name, reply := range map[string][]byte{
		"nothing":             nil,
		"short":               make([]byte, 9),
		"zeros":               make([]byte, 10),
		"long":                resized(append(reply(tpm2.TPMSTNoSessions, 0), make([]byte, 5000)...)),
		"tag":                 reply(0x8003, 0),
		"error that goes on":  reply(tpm2.TPMSTNoSessions, tpm2.TPMRCValue, 0),
		"error with sessions": reply(tpm2.TPMSTSessions, tpm2.TPMRCValue),
		"TPM 1.2":             reply(0xc4, 0x1e),
	} {
		for _, c := range append(keyCalls(tpm20.Hierarchy(tpm2.TPMRHOwner), tpm20.Hierarchy(1), tpm2b(nil), tpm2b(nil)), tpmCalls()...) {
			switch c.name {
			case "ECDHZGen", "Load", "StartPolicy":
				continue
			}
			err := c.do(answering(reply))
			var unanswered *tpm20.Unanswered
			if !errors.As(err, &unanswered) || errors.Is(err, tpm20.ErrTPM12) != (name == "TPM 1.2") {
				t.Errorf("%s, %s: %v", c.name, name, err)
			}
		}
	}
}

// A changed reply causes no panic. The code of an Error is the one in the reply's header.
func TestMutatedReplies(t *testing.T) {
	tpmtest.Long(t, tpmtest.Stress)
	t.Parallel()
	r := rand.New(rand.NewPCG(1, 2))
	for _, c := range recorded(t) {
		for range 400 {
			b := bytes.Clone(c.reply)
			for range 1 + r.IntN(4) {
				b[r.IntN(len(b))] = byte(r.Uint32())
			}
			err := c.do(answering(b))
			var refused *tpm20.Error
			if errors.As(err, &refused) && uint32(refused.Code) != binary.BigEndian.Uint32(b[6:]) {
				t.Errorf("%s: nobody refused: %v: %x", c.name, err, b)
			}
		}
	}
}

// FuzzReply: as TestMutatedReplies, for all commands.
func FuzzReply(f *testing.F) {
	calls := recorded(f)
	for i, c := range calls {
		f.Add(uint8(i), c.reply)
	}
	f.Fuzz(func(t *testing.T, which uint8, reply []byte) {
		c := calls[int(which)%len(calls)]
		err := c.do(answering(reply))
		var refused *tpm20.Error
		if errors.As(err, &refused) && uint32(refused.Code) != binary.BigEndian.Uint32(reply[6:]) {
			t.Errorf("%s: nobody refused: %v", c.name, err)
		}
	})
}

// An object with algorithms that go-tpm does not know is described. Any other public area that cannot
// be read is a malformed reply.
func TestUnknownObject(t *testing.T) {
	area := func(nameAlg, symmetric, mode, scheme tpm2.TPMAlgID) []byte {
		fields := []any{tpm2.TPMAlgRSA, nameAlg, uint32(0x30072), []byte{}, symmetric}
		if symmetric != tpm2.TPMAlgNull {
			fields = append(fields, 128, mode)
		}
		fields = append(fields, scheme)
		if scheme != tpm2.TPMAlgNull {
			fields = append(fields, tpm2.TPMAlgSHA256)
		}
		return tpmtest.PublicArea(append(fields, 2048, uint32(0), bytes.Repeat([]byte{0xff}, 256))...)
	}
	nameOf := func(public []byte) []byte {
		digest := sha256.Sum256(public[2:])
		return append(bytes.Clone(public[4:6]), digest[:]...)
	}
	const sha, null = tpm2.TPMAlgSHA256, tpm2.TPMAlgNull
	for name, c := range map[string]struct {
		public []byte
		want   string // empty for a malformed reply
	}{
		"Camellia":        {area(sha, tpm2.TPMAlgCamellia, tpm2.TPMAlgCFB, null), "the object at 0x81000001 uses Camellia, which this program does not support"},
		"SM3":             {area(tpm2.TPMAlgSM3256, tpm2.TPMAlgAES, tpm2.TPMAlgCFB, null), "the object at 0x81000001 uses SM3, which this program does not support"},
		"unknown scheme":  {tpmtest.PublicArea(tpm2.TPMAlgRSA, sha, uint32(0x40072), []byte{}, null, 0x999, 2048, uint32(0), bytes.Repeat([]byte{0xff}, 256)), "the object at 0x81000001 uses TPM_ALG_ID 0x0999, which this program does not support"},
		"unknown type":    {tpmtest.PublicArea(0xa1, sha, uint32(0x40072), []byte{}, 1), "the object at 0x81000001 uses TPM_ALG_ID 0x00a1, which this program does not support"},
		"damaged modulus": {tpmtest.PublicArea(tpm2.TPMAlgRSA, sha, uint32(0x40072), []byte{}, null, null, 2048, uint32(0), make([]byte, 256)), ""},
	} {
		own := nameOf(c.public)
		answer := func(name []byte) error {
			_, err := answering(reply(tpm2.TPMSTNoSessions, 0, slices.Concat(c.public, tpm2b(name), tpm2b(name))...)).ReadPublic(0x81000001)
			return err
		}
		var unknown *tpm20.UnknownObject
		var unanswered *tpm20.Unanswered
		switch err := answer(own); {
		case c.want == "" && !errors.As(err, &unanswered):
			t.Errorf("%s: %v", name, err)
		case c.want != "" && (!errors.As(err, &unknown) || err.Error() != c.want || !bytes.Equal(unknown.Public, c.public)):
			t.Errorf("%s: %v", name, err)
		}
		own[1] ^= 1
		if err := answer(own); !errors.As(err, &unanswered) {
			t.Errorf("%s, another name: %v", name, err)
		}
	}
}
