//go:build linux

package main

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/google/go-tpm/tpm2"

	"maclef/internal/relay"
	"maclef/tpmkey"
)

// slowCosts are the milliseconds that a slow TPM 2.0 takes for the commands here, without
// a salt for the session; for others it is otherCost. It is a model, rounded from public
// reports of discrete chips.
var slowCosts = map[string]int{
	"CreatePrimary": 600, "Load": 400, "ContextLoad": 90, "ContextSave": 70, "FlushContext": 15,
	"Sign": 300, "StartAuthSession": 30, "ReadPublic": 30, "GetCapability": 12,
}

const (
	otherCost = 15
	saltCost  = 250 // to decrypt a session's salt, besides
)

// slowed is how long the slow chip takes for a command.
func (s *settings) slowed(cmd []byte) time.Duration {
	name := commandOf(cmd).name
	ms, ok := slowCosts[name]
	if !ok {
		ms = otherCost
	}
	if handles, _ := relay.Parts20(cmd); name == "StartAuthSession" && handles[0] != uint32(tpm2.TPMRHNull) {
		ms += saltCost
	}
	return time.Duration(s.slowness * float64(ms) * float64(time.Millisecond))
}

// slowChip are the rows of four processes that sign at once on a slow chip.
func (b *bench) slowChip() (all []measurement) {
	for _, s := range b.slow {
		name := fmt.Sprintf("slow chip: %s, %s, 4 processes", s.name, s.file.kind())
		all = append(all, measurement{name, func(r *row) error { return b.signSlowly(r, s) }})
	}
	return all
}

// signSlowly measures once, and for longer: a turn is most of a second.
func (b *bench) signSlowly(r *row, s sharing) error {
	longer := *b.settings
	longer.rounds, longer.together = 1, 2*b.together
	slow := &bench{settings: &longer, tpm: b.tpm.behind("slow")}
	chip, err := relay.Listen(slow.tpm.socket(), b.tpm.socket(), true, func(c *relay.Conn, cmd []byte) ([]byte, error) {
		time.Sleep(b.slowed(cmd))
		return c.Send(cmd)
	})
	if err != nil {
		return err
	}
	defer chip.Wait()
	defer chip.Close()
	if err := slow.signTogether(r, s, 4); err != nil {
		return err
	}
	return slow.signNowAndThen(r, s)
}

// signNowAndThen has one process sign now and then, beside three that do all the time,
// and tells how long it waits until the TPM signs.
func (b *bench) signNowAndThen(r *row, s sharing) error {
	tasks := s.tasks(b, 4, 3*b.together)
	tasks[3].Pause = time.Duration(b.slowness * float64(time.Second))
	reports, err := runChildren(tasks...)
	if err != nil {
		return err
	}
	each, sign := reports[3].Each, b.slowed(s.command(0)).Seconds()
	usually, longest := median(each)-sign, slices.Max(each)-sign
	r.note += fmt.Sprintf("; beside three, one that signs now and then waited %.2f s (median of %d), %.2f s at most", usually, len(each), longest)
	r.goals = append(r.goals, atMost("wait", 2.5, longest))
	return nil
}

// turnIdle is for how long a turn may stay open for another operation.
const turnIdle = 100 * time.Millisecond

// nowAndThen pauses before each signature, and reports how long that took then.
func (t *task) nowAndThen(use func(*tpmkey.Key) ([]byte, error), r *report) func(*tpmkey.Key) ([]byte, error) {
	return func(k *tpmkey.Key) ([]byte, error) {
		time.Sleep(turnIdle + rand.N(t.Pause))
		start := time.Now()
		defer func() { r.Each = append(r.Each, time.Since(start).Seconds()) }()
		return use(k)
	}
}
