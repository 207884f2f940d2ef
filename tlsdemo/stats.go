package main

import (
	"slices"
	"sync"
	"time"
)

// history is how many signatures the chart shows.
const history = 100

// A sample is one signature: its number since the start, and how long it took.
type sample struct {
	number int
	took   time.Duration
}

// tally counts handshakes since the start.
type tally struct {
	signed   int // complete, with a signature of the key
	resumed  int // complete, without a signature
	failed   int // because of the client
	unsigned int // because the key could not sign
	gaveUp   int // because the client did not wait for the signature
	evicted  int // not handshakes: connections closed to make room
}

// stats counts what happened since the start. It is safe for concurrent use.
type stats struct {
	started time.Time

	mu         sync.Mutex
	tally      tally
	signatures int
	latest     time.Time // when the last one was made
	recent     []sample  // the last signatures, oldest first
}

func newStats() *stats { return &stats{started: time.Now()} }

// signed records a signature and returns it with its number, from 1 on.
func (s *stats) signed(took time.Duration) sample {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.signatures++
	s.latest = time.Now()
	one := sample{s.signatures, took}
	if len(s.recent) == history {
		copy(s.recent, s.recent[1:])
		s.recent = s.recent[:history-1]
	}
	s.recent = append(s.recent, one)
	return one
}

// signedWithin reports whether there was a signature in the last d.
func (s *stats) signedWithin(d time.Duration) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return time.Since(s.latest) < d
}

// count has f change the tally.
func (s *stats) count(f func(*tally)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f(&s.tally)
}

// snapshot returns the tally, the number of signatures and the latest of them, oldest
// first. The caller owns the slice.
func (s *stats) snapshot() (tally, int, []sample) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.tally, s.signatures, slices.Clone(s.recent)
}

// spread sums up samples; it is zero if there are none.
type spread struct{ Fastest, Median, Slowest time.Duration }

func spreadOf(samples []sample) spread {
	if len(samples) == 0 {
		return spread{}
	}
	times := make([]time.Duration, len(samples))
	for i, s := range samples {
		times[i] = s.took
	}
	slices.Sort(times)
	middle := len(times) / 2
	median := times[middle]
	if len(times)%2 == 0 {
		median = (times[middle-1] + times[middle]) / 2
	}
	return spread{times[0], median, times[len(times)-1]}
}
