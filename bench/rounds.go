//go:build linux

package main

import (
	"fmt"
	"slices"
	"sync"
	"time"
)

// A pace is how often something was done in which time.
type pace struct {
	done int
	took time.Duration
}

func (p pace) perSecond() float64 { return float64(p.done) / p.took.Seconds() }

// rates has what was measured, round by round, for each of several things.
type rates [][]float64

// plus is both, one after the other.
func (p pace) plus(q pace) pace { return pace{p.done + q.done, p.took + q.took} }

// inTurns measures several things, a round being so many short turns of each, so
// that what else goes on in the machine meets all of them: A B B A A B B A.
func inTurns(rounds, turns int, things ...func() (pace, error)) (rates, error) {
	r := make(rates, len(things))
	for range rounds {
		sums := make([]pace, len(things))
		for turn := range turns {
			for i := range things {
				if turn%2 == 1 {
					i = len(things) - 1 - i
				}
				p, err := things[i]()
				if err != nil {
					return nil, err
				}
				sums[i] = sums[i].plus(p)
			}
		}
		for i, sum := range sums {
			r[i] = append(r[i], sum.perSecond())
		}
	}
	return r, nil
}

// median is that of one thing's rates.
func (r rates) median(thing int) float64 { return median(r[thing]) }

// ratios are those of two things, round by round.
func (r rates) ratios(thing, to int) []float64 {
	ratios := make([]float64, len(r[thing]))
	for i := range ratios {
		ratios[i] = r[thing][i] / r[to][i]
	}
	return ratios
}

func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	middle := len(sorted) / 2
	if len(sorted)%2 == 1 {
		return sorted[middle]
	}
	return (sorted[middle-1] + sorted[middle]) / 2
}

// spread is from where to where values go.
func spread(format string, values []float64) string {
	return fmt.Sprintf(format+" – "+format, slices.Min(values), slices.Max(values))
}

// A crew is goroutines that are waited for together.
type crew struct{ sync.WaitGroup }

// run runs f in a new one.
func (c *crew) run(f func()) {
	c.Add(1)
	go func() {
		defer c.Done()
		f()
	}()
}
