//go:build linux

package main

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"time"
)

// restarter kills the TPM at random moments of the soak, and starts it again over
// its state.
func (s *soak) restarter() {
	moments := make([]int64, s.restarts)
	for i := range moments {
		moments[i] = rand.Int64N(s.signatures)
	}
	slices.Sort(moments)
	for _, moment := range moments {
		for s.done.Load() < moment {
			if !s.wait(time.Millisecond) {
				return
			}
		}
		if err := s.killTPM(); err != nil {
			s.tally.count(fmt.Errorf("prepare the TPM for a restart: %w", err))
			return
		}
		time.Sleep(rand.N(s.down))
		if err := s.tpm.start(); err != nil {
			s.tally.count(fmt.Errorf("restart the TPM: %w", err))
			return
		}
		s.restarted.Add(1)
	}
}

// killTPM ends the TPM, which half of the time has been told so before, where its
// generation can be told.
func (s *soak) killTPM() error {
	if rand.IntN(2) == 0 {
		s.tpm.kill()
		return nil
	}
	return s.tpm.direct(func(d *direct) error {
		err := s.tpm.generation.shutdown(d)
		s.tpm.kill() // while nobody else can use it
		return err
	})
}

// reporter tells every ten seconds how far the soak is.
func (s *soak) reporter() {
	for start := time.Now(); s.wait(10 * time.Second); {
		done := s.done.Load()
		fmt.Fprintf(s.progress, "soak: %d of %d signatures, %.0f a second; %d restarts, %d visits, %d killed; %d errors\n",
			done, s.signatures, float64(done)/time.Since(start).Seconds(),
			s.restarted.Load(), s.visited.Load(), s.killed.Load(), s.tally.total.Load())
	}
}

// wait waits, and reports false when the soak ends.
func (s *soak) wait(d time.Duration) bool {
	select {
	case <-s.stop:
		return false
	case <-time.After(d):
		return true
	}
}
