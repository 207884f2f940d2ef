package tpm20

import (
	"encoding/binary"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"
)

// Run runs one of go-tpm's commands. extra are sessions that only encrypt parameters. If the TPM
// refuses the command, the error is an *Error; if the command was sent and has no valid reply, an
// *Unanswered. An error of another type means that nothing was sent.
func Run[R any](c *Conn, cmd tpm2.Command[R, *R], extra ...tpm2.Session) (*R, error) {
	return runChecked(c, cmd, func(*R) error { return nil }, extra...)
}

// runChecked is Run with a check of the reply. A reply that check refuses is malformed.
func runChecked[R any](c *Conn, cmd tpm2.Command[R, *R], check func(*R) error, extra ...tpm2.Session) (*R, error) {
	var rsp *R
	err := c.Do(cmd, func(t transport.TPM) (_ any, err error) {
		if rsp, err = cmd.Execute(t, extra...); err == nil {
			err = check(rsp)
		}
		return rsp, err
	})
	if err != nil {
		return nil, err
	}
	return rsp, nil
}

// Do is Run for callers without a Conn. execute executes cmd and returns its reply.
func (c *Conn) Do(cmd interface{ Command() tpm2.TPMCC }, execute func(transport.TPM) (reply any, err error)) error {
	x := c.begin(cmd.Command())
	return x.run(func() error {
		x.secret = passwordIn(cmd)
		reply, err := execute(x)
		if err == nil {
			err = x.checkLength(reply)
		}
		return err
	})
}

// passwordIn reports whether a non-empty password authorizes a command.
func passwordIn(cmd any) bool {
	v := reflect.ValueOf(cmd)
	if v.Kind() != reflect.Struct {
		return false
	}
	for i := range v.NumField() {
		if !v.Type().Field(i).IsExported() {
			continue
		}
		if h, ok := v.Field(i).Interface().(tpm2.AuthHandle); ok && isPassword(h.Auth) {
			return true
		}
	}
	return false
}

func isPassword(s tpm2.Session) bool {
	if s == nil || s.Handle() != tpm2.TPMRSPW {
		return false
	}
	auth, err := s.Authorize(0, nil, nil, nil, 0)
	return err == nil && len(auth.Authorization.Buffer) > 0
}

// checkLength checks that a reply's parameters have the length of the structure that go-tpm read
// from them. go-tpm ignores extra bytes, and reads missing ones as zero.
func (x *exchange) checkLength(rsp any) error {
	v := reflect.ValueOf(rsp).Elem()
	params, handles := 0, 0
	for i := range v.NumField() {
		tag := v.Type().Field(i).Tag.Get("gotpm")
		if slices.Contains(strings.Split(tag, ","), "handle") {
			handles += 4
			continue
		}
		params += sizeOf(v.Field(i))
	}
	got := len(x.body) - handles
	if binary.BigEndian.Uint16(x.msg) == uint16(tpm2.TPMSTSessions) {
		if got < 4 {
			return fmt.Errorf("it has no parameterSize")
		}
		r := reader{b: x.body[handles:]}
		got = int(r.u32())
		r.next(got)
		for !r.bad && len(r.b) > 0 {
			r.sized()
			r.next(1)
			r.sized()
		}
		if r.bad {
			return fmt.Errorf("an authorization is too short")
		}
	}
	if got != params {
		return fmt.Errorf("%d bytes of parameters, expected %d", got, params)
	}
	return nil
}

// sizeOf returns the length of a marshalled value.
func sizeOf(v reflect.Value) int {
	switch v.Kind() {
	case reflect.Pointer:
		if v.IsNil() {
			return 2 // an optional structure: only its size, 0
		}
		return sizeOf(v.Elem())
	case reflect.Bool:
		return 1
	case reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return int(v.Type().Size())
	}
	if m, ok := v.Interface().(tpm2.Marshallable); ok {
		return len(tpm2.Marshal(m))
	}
	return len(tpm2.Marshal(v.Addr().Interface().(tpm2.Marshallable)))
}
