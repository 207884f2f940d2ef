//go:build linux

package main

import (
	"fmt"
	"runtime"

	"maclef/tpmkey"
)

// uses are the rows of signing, decrypting and agreeing in one process.
func (b *bench) uses() (all []measurement) {
	for _, op := range b.operations {
		for _, how := range op.how {
			name := fmt.Sprintf("%s, %s", op.name, how.file.kind())
			if how.goroutines > 1 {
				name += fmt.Sprintf(", %d goroutines", how.goroutines)
			}
			all = append(all, measurement{name, func(r *row) error { return b.operation(r, op, how) }})
		}
	}
	return all
}

func (b *bench) operation(r *row, op *operation, how usage) error {
	measured, err := inTurns(b.rounds, b.turns,
		func() (pace, error) { return b.bare(op, b.slice) },
		func() (p pace, err error) {
			err = how.file.use(b.tpm.name(), func(k *tpmkey.Key) error {
				if err := op.warmUp(k); err != nil {
					return err
				}
				p, err = op.repeat(func() *tpmkey.Key { return k }, how.goroutines, b.slice)
				return err
			})
			return p, err
		})
	if err != nil {
		return err
	}
	r.compared(measured, 1, 0)
	r.goals = append(r.goals, atLeast("ratio", 0.97, median(measured.ratios(1, 0))))
	return b.countCommands(r, how.file, op.once)
}

// countCommands fills in how many TPM commands a use of a loaded key takes, from
// the second use on.
func (b *bench) countCommands(r *row, f keyFile, use func(*tpmkey.Key) error) error {
	p, err := newProxy(b.tpm)
	if err != nil {
		return err
	}
	defer p.close()
	return f.use(p.name(), func(k *tpmkey.Key) error {
		if err := use(k); err != nil {
			return err
		}
		p.reset()
		for range b.counted {
			if err := use(k); err != nil {
				return err
			}
		}
		r.counted(p, b.counted, 0, 1)
		return nil
	})
}

// memory are the rows of what an operation allocates.
func (b *bench) memory() (all []measurement) {
	for _, op := range b.operations {
		for _, f := range []keyFile{op.plain, op.secret} {
			all = append(all, measurement{fmt.Sprintf("memory: %s, %s", op.name, f.kind()), func(r *row) error {
				return f.use(b.tpm.name(), func(k *tpmkey.Key) (err error) {
					r.note, err = b.allocations(op, k)
					return err
				})
			}})
		}
	}
	return all
}

// allocations says what an operation allocates, on the average of many, everything
// that the library does besides included.
func (b *bench) allocations(op *operation, k *tpmkey.Key) (string, error) {
	if err := op.once(k); err != nil {
		return "", err
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range b.counted {
		if err := op.once(k); err != nil {
			return "", err
		}
	}
	runtime.ReadMemStats(&after)
	n := uint64(b.counted)
	return fmt.Sprintf("%d allocations, %d bytes each", (after.Mallocs-before.Mallocs+n/2)/n,
		(after.TotalAlloc-before.TotalAlloc+n/2)/n), nil
}
