package main

import (
	"bytes"
	"context"
	"fmt"
	"regexp"
	"strings"
	"testing"

	"maclef/tpmkey"
)

func TestOutagesAreToldOnce(t *testing.T) {
	out := new(bytes.Buffer)
	l := newLogger(out)
	locked := func(n int) error { return fmt.Errorf("sign: %w (%d s)", tpmkey.ErrLockedOut, n) }
	l.keyFailed(locked(1))
	l.keyFailed(locked(2))
	l.keyWorks(new(conn)) // a client that hung up before anything was signed
	l.keyFailed(tpmkey.ErrBusy)
	l.keyFailed(fmt.Errorf("sign: %w", tpmkey.ErrGone))
	l.keyFailed(fmt.Errorf("open it again: %w", tpmkey.ErrNoTPM))
	l.keyFailed(fmt.Errorf("gave up waiting: %w: %w", tpmkey.ErrBusy, context.DeadlineExceeded))
	l.keyWorks(&conn{sample: sample{number: 1}})
	l.keyWorks(&conn{sample: sample{number: 2}})
	l.keyFailed(tpmkey.ErrClosed)
	l.end()
	got := regexp.MustCompile(`(?m)^\S+ \S+ `).ReplaceAllString(out.String(), "")
	want := `handshakes fail, the key does not sign: sign: the TPM is locked out after too many wrong secrets (1 s); trying again at each handshake
2 handshakes failed before
handshakes fail, the key does not sign: TPM is busy; trying again at each handshake
1 handshake failed before
handshakes fail, the TPM does not answer: sign: connection to the TPM lost; trying again at each handshake
3 handshakes failed meanwhile
the key signs again
handshakes fail, the key does not sign: already closed
1 handshake failed since then
`
	if got != want {
		t.Errorf("%s", got)
	}
}

func TestFailuresAreLimitedInTheLog(t *testing.T) {
	out := new(bytes.Buffer)
	l := newLogger(out)
	for i := range 500 {
		l.limitedf("client %d", i)
	}
	l.flush()
	if n := strings.Count(out.String(), "\n"); n != limitedLines+1 {
		t.Errorf("%d lines", n)
	}
	mention(t, out.String(), "… and 490 lines like these")
}
