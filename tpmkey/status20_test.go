package tpmkey_test

import (
	"encoding/binary"
	"testing"

	"maclef/tpmkey"
)

// A reciter is a TPM 2.0 that refuses the first command, as one of TPM 1.2, has no
// algorithms and commands, and answers all others in the same way.
type reciter struct {
	answer []byte
	asked  int
}

func (r *reciter) Close() error { return nil }

func (r *reciter) Send(cmd []byte) ([]byte, error) {
	r.asked++
	if rsp := firstAnswers(r.asked, cmd); rsp != nil {
		return rsp, nil
	}
	return r.answer, nil
}

// firstAnswers is what a TPM 2.0 says while it is opened; nil for what comes later.
func firstAnswers(asked int, cmd []byte) []byte {
	if asked == 1 {
		return []byte{0x80, 0x01, 0, 0, 0, 10, 0, 0, 0, 0x1e}
	}
	if capability := cmd[len(cmd)-9]; asked <= 6 && (capability == 0 || capability == 2) {
		return []byte{0x80, 0x01, 0, 0, 0, 19, 0, 0, 0, 0, 0, 0, 0, 0, capability, 0, 0, 0, 0}
	}
	return nil
}

// properties20 is a reply of TPM2_GetCapability: TPM 2.0 Library Part 3, section
// 30.2.
func properties20(more byte, pairs ...uint32) []byte {
	body := []byte{more, 0, 0, 0, 6}
	body = binary.BigEndian.AppendUint32(body, uint32(len(pairs)/2))
	for _, n := range pairs {
		body = binary.BigEndian.AppendUint32(body, n)
	}
	head := binary.BigEndian.AppendUint32([]byte{0x80, 0x01}, uint32(10+len(body)))
	return append(append(head, 0, 0, 0, 0), body...)
}

// A TPM that goes on for ever, or backwards, is not believed.
func TestStatus20Endless(t *testing.T) {
	t.Parallel()
	for name, answer := range map[string][]byte{
		"the same again": properties20(1, 0x100, 0),
		"backwards":      properties20(0, 0x102, 0, 0x101, 0),
		"nothing more":   properties20(1),
		"the last one":   properties20(1, 0xffffffff, 1),
		"the next group": properties20(1, 0x100, 0, 0x300, 0),
	} {
		r := &reciter{answer: answer}
		tpm, err := tpmkey.OpenTransport(t.Context(), r)
		if err != nil {
			t.Fatal(err)
		}
		s, err := tpm.Status(t.Context())
		if r.asked > 20 || (name == "the same again" || name == "backwards") && err == nil {
			t.Errorf("%s: %d commands, %+v, %v", name, r.asked, s, err)
		}
	}
}

func FuzzStatus20(f *testing.F) {
	f.Add(properties20(0, 0x105, 0x49465800, 0x106, 0x534c4239))
	f.Add(properties20(1))
	f.Add([]byte{0x80, 0x01, 0, 0, 0, 10, 0, 0, 1, 0})
	f.Fuzz(func(t *testing.T, answer []byte) {
		tpm, err := tpmkey.OpenTransport(t.Context(), &reciter{answer: answer})
		if err == nil {
			_, _ = tpm.Status(t.Context())
			tpm.Close()
		}
	})
}

// A dripper tells one property at a time, and always has more.
type dripper struct{ asked int }

func (d *dripper) Close() error { return nil }

func (d *dripper) Send(cmd []byte) ([]byte, error) {
	d.asked++
	if rsp := firstAnswers(d.asked, cmd); rsp != nil {
		return rsp, nil
	}
	return properties20(1, binary.BigEndian.Uint32(cmd[len(cmd)-8:]), 1), nil
}

func TestStatus20Drip(t *testing.T) {
	t.Parallel()
	d := new(dripper)
	tpm, err := tpmkey.OpenTransport(t.Context(), d)
	if err != nil {
		t.Fatal(err)
	}
	if s, err := tpm.Status(t.Context()); err == nil || d.asked > 2*80 { // it is asked twice
		t.Errorf("%d commands, %+v, %v", d.asked, s, err)
	}
}
