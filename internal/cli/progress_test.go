package cli

import (
	"bytes"
	"io"
	"testing"
	"time"
)

// tick shows a wait for the TPM, or does not, and returns when to look again.
func TestTick(t *testing.T) {
	t.Parallel()
	const began = 5*time.Second + 200*time.Millisecond
	for name, c := range map[string]struct {
		change func(s *screen, p *progress)
		want   string
		next   time.Duration // at most
	}{
		"is shown":                     {func(*screen, *progress) {}, "\rx: waiting… 5 s", 800 * time.Millisecond},
		"not yet":                      {func(_ *screen, p *progress) { p.begin = p.begin.Add(4 * time.Second) }, "", 800 * time.Millisecond},
		"a prompt was answered lately": {func(s *screen, p *progress) { s.resumed = p.begin.Add(5 * time.Second) }, "", 1800 * time.Millisecond},
		"a prompt was answered before": {func(s *screen, p *progress) { s.resumed = p.begin.Add(2 * time.Second) }, "\rx: waiting… 3 s", 800 * time.Millisecond},
		"a secret is read":             {func(s *screen, _ *progress) { s.paused = 1 }, "", 800 * time.Millisecond},
		"the command shows its own":    {func(s *screen, _ *progress) { s.ownProgress = 1 }, "", 800 * time.Millisecond},
		"it is the command's own":      {func(s *screen, p *progress) { s.ownProgress, p.fallback = 1, false }, "\rx: waiting… 5 s", 800 * time.Millisecond},
		"a signal has come":            {func(s *screen, _ *progress) { s.ending = true }, "", 800 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			var stderr bytes.Buffer
			e := NewEnv("x", nil, io.Discard, &stderr)
			p := &progress{what: "waiting", begin: time.Now().Add(-began), delay: waitDelay, fallback: true}
			c.change(&e.screen, p)
			if next := e.tick(p); next <= 0 || next > c.next {
				t.Errorf("again after %v, want at most %v", next, c.next)
			}
			if got := stderr.String(); got != c.want {
				t.Errorf("%q, want %q", got, c.want)
			}
		})
	}
}
