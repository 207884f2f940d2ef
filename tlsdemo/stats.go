package main

import (
	"slices"
	"sync"
	"time"
)

// history is how many signatures the chart shows.
const history = 100

// A sample is one signature: its number since start, and how long it took.
type sample struct {
	number int
	took   time.Duration
}

// tally counts handshakes since start.
type tally struct {
	signed   int // complete, with a signature of the key
	resumed  int // complete, without one
	failed   int // by the client
	unsigned int // because the key could not sign
	gaveUp   int // before the key had signed
	pushed   int // not handshakes: connections closed to make room
}

// stats is what happened since start. It is safe for concurrent use.
type stats struct {
	started time.Time

	mu         sync.Mutex
	tally      tally
	signatures int
	latest     time.Time // when the last one was made
	recent     []sample  // the last of them, oldest first
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

// count lets f count.
func (s *stats) count(f func(*tally)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f(&s.tally)
}

// snapshot returns the counts and the latest signatures, oldest first, which
// the caller owns.
func (s *stats) snapshot() (tally, int, []sample) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.tally, s.signatures, slices.Clone(s.recent)
}

// spread is what the samples have in common; zero without any.
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
