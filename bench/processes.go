//go:build linux

package main

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/google/go-tpm/tpm2"

	"maclef/internal/tpmtest"
	"maclef/tpmkey"
)

// processes are the rows of several processes that sign on one TPM at once.
func (b *bench) processes() []measurement {
	var all []measurement
	for _, s := range b.shared {
		for _, n := range s.processes {
			all = append(all, measurement{fmt.Sprintf("%s, %s, %d processes", s.name, s.file.kind(), n), func(r *row) error {
				return b.signTogether(r, s, n)
			}})
		}
	}
	return all
}

func (b *bench) signTogether(r *row, s sharing, n int) error {
	var shares []float64 // of the fair one
	measured, err := inTurns(b.rounds, 1,
		func() (pace, error) { return b.bare(s.operation, b.together/2) },
		func() (pace, error) { return b.signProcesses(s.tasks(b, 1, b.together/2), nil) },
		func() (pace, error) { return b.signProcesses(s.tasks(b, n, b.together), &shares) },
	)
	if err != nil {
		return err
	}
	r.compared(measured, 2, 0)
	ofOne := median(measured.ratios(2, 1))
	low, high := slices.Min(shares), slices.Max(shares)
	r.note = fmt.Sprintf("all together, that is %.2f of what one process does; each got %s of its fair share", ofOne, spread("%.2f", shares))
	r.goals = []goal{atLeast("sum, of one process,", s.least, ofOne), atLeast("each", 0.5, low), atMost("each", 2, high)}
	return nil
}

// tasks are those of so many processes that sign for a while.
func (s *sharing) tasks(b *bench, n int, slice time.Duration) []*task {
	tasks := make([]*task, n)
	for i := range tasks {
		tasks[i] = &task{Role: "sign", TPM: b.tpm.name(), Keys: []keyFile{s.file}, For: slice, Way: s.way, Want: s.want}
	}
	return tasks
}

// signProcesses has processes sign, and adds each one's part in the sum, times their
// number, to shares.
func (b *bench) signProcesses(tasks []*task, shares *[]float64) (sum pace, err error) {
	reports, err := runChildren(tasks...)
	if err != nil {
		return sum, err
	}
	for _, r := range reports {
		sum.done += r.Done
		sum.took = max(sum.took, r.Took)
	}
	if shares != nil {
		for _, r := range reports {
			*shares = append(*shares, float64(r.Done)*float64(len(tasks))/float64(sum.done))
		}
	}
	return sum, nil
}

// sign signs for a while, like the operation in one process.
func (t *task) sign(begin func() error, r *report) error {
	op := &operation{want: t.Want, use: signWith(t.Way)}
	return t.Keys[0].use(t.TPM, func(k *tpmkey.Key) error {
		if err := op.once(k); err != nil { // warms up
			return err
		}
		if err := begin(); err != nil {
			return err
		}
		if t.Pause > 0 {
			op.use = t.nowAndThen(op.use, r)
		}
		p, err := op.repeat(func() *tpmkey.Key { return k }, 1, t.For)
		if err != nil {
			r.fail(err)
		}
		r.Done, r.Took = p.done, p.took
		return nil
	})
}

// slowCosts are the milliseconds that a slow TPM 2.0 takes for the commands here, without
// a salt for the session; for others it is otherCost. It is a model, rounded from public
// reports of discrete chips.
var slowCosts = map[string]int{
	"CreatePrimary": 600, "Create": 900, "Import": 500, "Load": 400, "ContextLoad": 90, "ContextSave": 70, "FlushContext": 15,
	"Sign": 300, "RSA_Decrypt": 350, "ECDH_ZGen": 200, "Unseal": 200, "StartAuthSession": 30, "PolicyPCR": 40,
	"LoadExternal": 60, "VerifySignature": 60, "ReadPublic": 30, "GetCapability": 12,
}

const (
	otherCost      = 15
	saltCost       = 250  // to decrypt a session's salt, besides
	rsaPrimaryCost = 5000 // to make an RSA primary
	rsaKeyCost     = 8000
)

// slowed is how long the slow chip takes for a command.
func (s *settings) slowed(cmd []byte) time.Duration {
	return time.Duration(s.slowness * float64(slowCost(cmd)) * float64(time.Millisecond))
}

// slowCost is how many milliseconds that is.
func slowCost(cmd []byte) int {
	name := commandOf(cmd).name
	ms, ok := slowCosts[name]
	handles, _ := tpmtest.Parts20(cmd)
	switch {
	case !ok:
		return otherCost
	case name == "StartAuthSession" && handles[0] != uint32(tpm2.TPMRHNull):
		return ms + saltCost
	case name == "CreatePrimary" && makesRSA(cmd):
		return rsaPrimaryCost
	case name == "Create" && makesRSA(cmd):
		return rsaKeyCost
	}
	return ms
}

// makesRSA looks for the beginning of an RSA key's public area: its type and SHA-256 as
// the algorithm of its name.
func makesRSA(cmd []byte) bool { return bytes.Contains(cmd[10:], []byte{0, 1, 0, 0x0b}) }

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
	chip, err := tpmtest.Listen(slow.tpm.socket(), b.tpm.socket(), true, func(c *tpmtest.ProxyConn, cmd []byte) ([]byte, error) {
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
