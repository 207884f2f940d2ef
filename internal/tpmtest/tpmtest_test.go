package tpmtest

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// flags asks for the permanent flags: TPM Main Part 3, section 7.1.
var flags = []byte{0, 0xC1, 0, 0, 0, 22, 0, 0, 0, 0x65, 0, 0, 0, 4, 0, 0, 0, 4, 0, 0, 1, 8}

func TestStates(t *testing.T) {
	t.Parallel()
	for name, state := range map[string]State{"tutorial": Tutorial, "wellknown": WellKnown, "fresh": Fresh,
		"disabled": Disabled, "deactivated": Deactivated} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if name != "tutorial" {
				Long(t, Slow12)
			}
			s := Start(t, state)
			s.Send(flags)
			s.Kill()
			s.Restart()
			s.Send(flags)
		})
	}
}

func TestFixturePathIsACopy(t *testing.T) {
	t.Parallel()
	path := FixturePath(t, "tpm12-tutorial/maclef")
	if filepath.Base(path) != "maclef" {
		t.Error(path)
	}
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if len(Fixture(t, "tpm12-tutorial/maclef")) != 820 {
		t.Error("the fixture changed")
	}
}

// echo answers every command with itself.
type echo struct{ closed bool }

func (e *echo) Send(cmd []byte) ([]byte, error) { return cmd, nil }
func (e *echo) Close() error                    { e.closed = true; return nil }

func TestTap(t *testing.T) {
	inner := new(echo)
	tap := NewTap(inner)
	if rsp, err := tap.Send(flags); err != nil || !bytes.Equal(rsp, flags) {
		t.Fatal(rsp, err)
	}
	lost := errors.New("lost")
	tap.Before = func(i int, cmd []byte) ([]byte, error) {
		if i == 2 {
			return nil, lost
		}
		return cmd, nil
	}
	tap.After = func(i int, cmd, rsp []byte, err error) ([]byte, error) { return rsp[:3], err }
	if rsp, err := tap.Send(flags); err != nil || len(rsp) != 3 {
		t.Error(rsp, err)
	}
	if _, err := tap.Send(flags); err != lost {
		t.Error(err)
	}
	if tap.Count() != 3 || tap.Count(0x65) != 3 || tap.Count(0x66) != 0 || tap.Exchanges()[2].Err != lost {
		t.Errorf("%+v", tap.Exchanges())
	}
	tap.Reset()
	if tap.Close(); tap.Count() != 0 || !inner.closed {
		t.Error("not reset or not closed")
	}
}
