//go:build linux

package main

import (
	"fmt"
	"slices"
	"time"

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
