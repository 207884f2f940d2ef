package tpm12_test

import (
	"bytes"
	"slices"
	"testing"
	"time"

	"maclef/internal/tpm12"
	"maclef/internal/tpmtest"
)

// A busy TPM gets the same bytes again, and the session goes on.
func TestBusyTPM(t *testing.T) {
	t.Parallel()
	tpmtest.Long(t, tpmtest.Slow12)
	const ordSelfTest = 0x53
	for code, want := range map[tpm12.ResultCode][]uint32{
		tpm12.Retry:         {ordSign, ordSign, ordSign, ordSign},
		tpm12.DoingSelfTest: {ordSign, ordSign, ordSign, ordSign},
		tpm12.NeedsSelfTest: {ordSign, ordSelfTest, ordSign, ordSign, ordSign},
	} {
		t.Run(code.Name(), func(t *testing.T) {
			conn, tap := open(t, tpmtest.Tutorial)
			conn.Keep(true)
			conn.Patience = time.Hour
			key, secret := loadSecretKey(t, conn)
			left := 3
			tap.Before = func(_ int, cmd []byte) ([]byte, error) {
				if cmd[9] == ordSign && left > 0 { // the TPM does not see it
					return []byte{0, 0xc1, 0, 0, 0, 10, 0, 0, 0, ordSelfTest}, nil
				}
				return cmd, nil
			}
			tap.After = func(i int, cmd, rsp []byte, err error) ([]byte, error) {
				if i != 1 || code != tpm12.NeedsSelfTest {
					if left > 0 {
						left--
						return errorReply(code), nil
					}
				}
				return rsp, err
			}
			tap.Reset()
			mustSign(t, conn, key, secret)
			if got := ordinals(tap); !slices.Equal(got, want) {
				t.Errorf("commands %#x, want %#x", got, want)
			}
			log := tap.Exchanges()
			if !bytes.Equal(log[0].Command, log[len(log)-1].Command) {
				t.Error("other bytes were sent again")
			}
			tap.Reset()
			mustSign(t, conn, key, secret)
			wantCommands(t, tap, ordSign)
		})
	}
}

// always answers every command with a code, and counts.
type always struct {
	code tpm12.ResultCode
	n    int
}

func (a *always) Send([]byte) ([]byte, error) {
	a.n++
	return errorReply(a.code), nil
}

// Every other error reply is final.
func TestNothingElseIsSentAgain(t *testing.T) {
	t.Parallel()
	for _, code := range tpm12.ResultCodes() {
		switch code := tpm12.ResultCode(code); code {
		case tpm12.Success, tpm12.Retry, tpm12.NeedsSelfTest, tpm12.DoingSelfTest:
		default:
			tpm := &always{code: code}
			if _, err := tpm12.New(tpm).Sign(1, []byte("x"), nil); err == nil || tpm.n != 1 {
				t.Errorf("%v: %v after %d commands", code, err, tpm.n)
			}
		}
	}
}
