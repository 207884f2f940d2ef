//go:build linux

package main

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"maclef/tpmkey"
)

// manyKeys are the rows of more and more keys used at random by one process.
func (b *bench) manyKeys() (all []measurement) {
	for _, c := range b.many {
		for _, n := range c.numbers {
			name := fmt.Sprintf("sign with one of %d %s", n, c.name)
			if n == 1 {
				name = "sign with the only key"
			}
			all = append(all, measurement{name, func(r *row) error {
				return b.random(r, c.operation, slices.Repeat([]keyFile{c.plain}, n))
			}})
		}
	}
	return all
}

// manyRounds is enough where loading the keys takes longest.
const manyRounds = 3

func (b *bench) random(r *row, op *operation, files []keyFile) error {
	var loading []float64
	measured, err := inTurns(min(b.rounds, manyRounds), 1,
		func() (pace, error) { return b.bare(op, b.long()) },
		func() (p pace, err error) {
			start := time.Now()
			err = useKeys(b.tpm.name(), files, func(keys []*tpmkey.Key) error {
				loading = append(loading, time.Since(start).Seconds()*1000/float64(len(files)))
				p, err = op.repeat(randomly(keys), 1, b.long())
				return err
			})
			return p, err
		})
	if err != nil {
		return err
	}
	r.compared(measured, 1, 0)
	r.note = fmt.Sprintf("loading took %.1f ms a key", median(loading))
	return b.countSwitches(r, op, files)
}

func randomly(keys []*tpmkey.Key) func() *tpmkey.Key {
	return func() *tpmkey.Key { return keys[rand.IntN(len(keys))] }
}

// countSwitches fills in how many TPM commands a signature takes, and how many
// each time that its key was not in the TPM.
func (b *bench) countSwitches(r *row, op *operation, files []keyFile) error {
	p, err := newProxy(b.tpm)
	if err != nil {
		return err
	}
	defer p.close()
	return useKeys(p.name(), files, func(keys []*tpmkey.Key) error {
		time.Sleep(2 * turnIdle) // until all have been taken out once
		pick := randomly(keys)
		p.reset()
		for range b.counted {
			if err := op.once(pick()); err != nil {
				return err
			}
		}
		all, switches := p.count("LoadKey2", "LoadContext", "Load", "ContextLoad")
		r.commands = fmt.Sprintf("%.2f", float64(all)/float64(b.counted))
		if switches == 0 {
			return nil
		}
		each := float64(all-b.counted) / float64(switches)
		r.note += fmt.Sprintf("; %.0f %% found their key outside, %.2f commands for a switch: %s",
			100*float64(switches)/float64(b.counted), each, p.list())
		r.goals = append(r.goals, atMost("a switch", 3, each))
		return nil
	})
}
