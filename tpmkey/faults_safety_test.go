package tpmkey_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/google/go-tpm/tpm2"

	"maclef/internal/tpmtest"
)

// A violation is a promise that was broken in a case.
type violation struct {
	rule   string
	c      *faultCase
	detail string
}

// A finding is what a case showed.
type finding struct {
	c         *faultCase
	results   []stepResult
	exchanges []tpmtest.Exchange
	hung      bool
	past      bool // the fault happened, and is over
	notIdle   error
	left
	broken error
}

// unsafe lists the rules that must hold whatever happens and were broken.
func (f *finding) unsafe() (broken []violation) {
	add := func(rule, format string, args ...any) {
		broken = append(broken, violation{rule, f.c, fmt.Sprintf(format, args...)})
	}
	if f.broken != nil {
		add("the software TPM stays usable", "%v", f.broken)
	}
	if f.hung {
		add("no step hangs", "%v", f.last().step)
	}
	if f.notIdle != nil {
		add("Close ends the connection", "%v", f.notIdle)
	}
	for _, r := range f.results {
		f.checkResult(r, add)
	}
	if len(f.keys) > 0 && !f.hiddenKey() {
		add("no key is left in the TPM", "%v", f.keys)
	}
	if len(f.sessions) > 0 && !f.hiddenSession() {
		add("no session is left in the TPM", "%#x", f.sessions)
	}
	if _, unwarned := f.c.restarts(); unwarned && f.c.key.tpm.is20 && f.tries > 0 {
		f.tries-- // not for a secret
	}
	if f.tries > 1 && !f.hiddenCount() {
		add("a wrong secret costs one try", "%d tries", f.tries)
	}
	if f.tries > 0 && f.c.key.wrong == nil && f.c.class != classFlip && f.c.class != classForged { // which put a session out of step
		add("a right secret costs no try", "%d tries", f.tries)
	}
	if again := f.usedAgain(); again != "" {
		add("a refused secret is not used again", "%s", again)
	}
	return broken
}

func (f *finding) last() stepResult {
	if len(f.results) == 0 {
		return stepResult{step: stepOpen}
	}
	return f.results[len(f.results)-1]
}

// hiddenSession reports a session whose handle was changed on its way to a client
// that has no means to know: nothing protects the answers to TPM_OIAP and
// TPM2_StartAuthSession.
func (f *finding) hiddenSession() bool {
	opens := f.c.planned().ordinal == ordOIAP || f.c.planned().ordinal == uint32(tpm2.TPMCCStartAuthSession)
	return f.c.class == classFlip && opens && f.c.at >= 10 && f.c.at < 14
}

// hiddenKey reports a parent whose handle was changed into that of the key on its way
// to a client that has no means to know: nothing protects the answer to
// TPM2_ContextLoad.
func (f *finding) hiddenKey() bool {
	return f.c.class == classFlip && f.c.planned().ordinal == uint32(tpm2.TPMCCContextLoad) && f.c.at == 13
}

// hiddenCount reports a count of wrong secrets that was changed on its way: nothing
// protects it.
func (f *finding) hiddenCount() bool {
	ordinal := f.c.planned().ordinal
	return f.c.class == classFlip && (ordinal == ordGetCap || ordinal == uint32(tpm2.TPMCCGetCapability) || ordinal == uint32(tpm2.TPMCCReadClock))
}

// checkResult checks what one step gave.
func (f *finding) checkResult(r stepResult, add func(rule, format string, args ...any)) {
	switch {
	case r.step == "panic":
		add("no panic", "%v", r.wrong)
	case r.wrong != nil:
		add("no wrong result", "%s: %v", r.step, r.wrong)
	case r.step == stepCheck && f.c.class == classCode: // the TPM has not got the command, and nobody authenticates the code
	case r.err == nil && !r.skipped && r.step.usesKey() && f.c.key.wrong != nil:
		add("a wrong secret is not accepted", "%s", r.step)
	}
	if why := unclear(r.err); why != "" {
		add("errors are clear", "%s: %s: %q", r.step, why, r.err)
	}
	if r.step != f.c.deadline() {
		return
	}
	if r.took > silence(r.step)-opDeadline {
		add("a deadline is kept", "%s took %v", r.step, r.took.Round(100*time.Millisecond))
	}
	if f.c.class == classLate && r.err != nil && !errors.Is(r.err, context.DeadlineExceeded) {
		add("a deadline is told", "%s: %v", r.step, r.err)
	}
}

// slow reports whether the TPM may keep its client waiting.
func (c *faultCase) slow() bool {
	return c.class == classLate || c.class == classSilent || c.class == classFlip && c.at >= 2 && c.at < 6
}

// deadline is the step that is given one.
func (c *faultCase) deadline() step {
	if p := c.planned(); c.slow() && p.step.bounded() {
		return p.step
	}
	return "none"
}

// unclear says what an error's text lacks.
func unclear(err error) string {
	if err == nil {
		return ""
	}
	text := err.Error()
	switch {
	case strings.TrimSpace(text) == "":
		return "no text"
	case text == "EOF" || strings.HasSuffix(text, ": EOF"):
		return "a bare EOF"
	case strings.Contains(text, "%!"):
		return "a badly formatted text"
	case !strings.Contains(text, " "):
		return "one word"
	case errors.Is(err, context.DeadlineExceeded) && !strings.Contains(text, "TPM"):
		return "does not say what was waited for"
	}
	return ""
}

// usedAgain says which secret was sent again after the TPM had called it wrong.
// One that was right before may be: a session can get out of step. So may one that the TPM
// has not counted: it did not say so itself, or has forgotten it in a restart.
func (f *finding) usedAgain() string {
	restarted, _ := f.c.restarts()
	if restarted || f.hiddenCount() {
		return ""
	}
	proved, refused := map[bool]bool{}, map[bool]bool{}
	for i, e := range f.exchanges {
		parents, any := f.c.key.secretIn(e)
		if !any {
			continue
		}
		if refused[parents] {
			return fmt.Sprintf("%s, command %d", e.Name(), i)
		}
		switch right, wrong := f.c.key.authResult(e); {
		case right:
			proved[parents] = true
		case wrong && !proved[parents] && i != f.c.index:
			refused[parents] = true
		}
	}
	return ""
}
