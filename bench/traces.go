//go:build linux

package main

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"time"

	"maclef/tpmkey"
)

// Traces are what a program may leave behind: in the TPM, and in its own process.
type traces struct {
	keys, sessions    int
	files, goroutines int
	heap              uint64 // bytes
}

// traces looks, past the library. Nobody uses the TPM.
func (s *soak) traces() (t traces, err error) {
	err = s.tpm.direct(func(d *direct) error {
		keys, sessions, err := s.tpm.generation.left(d)
		t.keys, t.sessions = len(keys), len(sessions)
		return err
	})
	open, readErr := os.ReadDir("/proc/self/fd")
	t.files, t.goroutines = len(open), runtime.NumGoroutine()
	runtime.GC()
	var memory runtime.MemStats
	runtime.ReadMemStats(&memory)
	t.heap = memory.HeapAlloc
	return t, errors.Join(err, readErr)
}

// idle uses each key, and sees that nothing is loaded when this program does nothing
// with the TPM any more.
func (s *soak) idle(keys []*tpmkey.Key) error {
	for _, k := range keys {
		if err := signAndVerify(k); err != nil {
			return err
		}
	}
	now, err := s.traces()
	if now.keys+now.sessions > 0 {
		err = fmt.Errorf("%d keys and %d sessions of an idle program are loaded", now.keys, now.sessions)
	}
	return err
}

// settled gives what goroutines and connections have to end a moment for it.
func (s *soak) settled(before traces) (after traces, err error) {
	for deadline := time.Now().Add(3 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		after, err = s.traces()
		if err != nil || after.like(before) || time.Now().After(deadline) {
			return after, err
		}
	}
}

// like reports that there is no more than before.
func (t traces) like(before traces) bool {
	return t.keys == before.keys && t.sessions == before.sessions &&
		t.files <= before.files && t.goroutines <= before.goroutines
}

// freeLeftovers frees what processes that were killed have left in the TPM.
func (s *soak) freeLeftovers() error {
	tpm, err := tpmkey.Open(s.tpm.name())
	if err != nil {
		return err
	}
	_, _, err = tpm.FlushLeftovers(true)
	return errors.Join(err, tpm.Close())
}

// leftByOne is how many keys, or sessions, a killed visitor leaves at most: what a turn
// of its has loaded, two keys and what is to be a parent.
const leftByOne = 3

// judge prints the table, and returns an error if anything is not as it should be.
func (s *soak) judge(before, left, after traces, took time.Duration) error {
	var wrong []string
	complain := func(bad bool, format string, args ...any) {
		if bad {
			wrong = append(wrong, fmt.Sprintf(format, args...))
		}
	}
	done, killed := s.done.Load(), s.killed.Load()
	complain(done < s.signatures, "only %d of %d signatures", done, s.signatures)
	complain(s.tally.total.Load() > 0, "%d errors", s.tally.total.Load())
	complain(int(s.restarted.Load()) < s.restarts, "only %d of %d restarts", s.restarted.Load(), s.restarts)
	complain(int64(max(left.keys-before.keys, left.sessions-before.sessions)) > leftByOne*killed,
		"%d keys and %d sessions were left in the TPM, with %d visitors killed", left.keys, left.sessions, killed)
	complain(!after.like(before), "not everything is as it was")

	fmt.Fprintf(s.out, "| | |\n|---|--:|\n| signatures, each verified | %d |\n| goroutines | %d |\n| signatures a second | %.0f |\n",
		done, s.goroutines, float64(done)/took.Seconds())
	fmt.Fprintf(s.out, "| slowest signature | %v |\n| restarts of the TPM | %d |\n| visits of other processes | %d |\n| visitors killed | %d |\n",
		time.Duration(s.slowest.Load()).Round(time.Millisecond), s.restarted.Load(), s.visited.Load(), s.killed.Load())
	for _, line := range []struct {
		what          string
		before, after any
	}{
		{"keys in the TPM", before.keys, after.keys}, {"sessions in the TPM", before.sessions, after.sessions},
		{"file descriptors", before.files, after.files}, {"goroutines", before.goroutines, after.goroutines},
		{"kB of memory in use", before.heap / 1024, after.heap / 1024},
	} {
		fmt.Fprintf(s.out, "| %s before, after | %v, %v |\n", line.what, line.before, line.after)
	}
	fmt.Fprintf(s.out, "| left at the end by killed visitors: keys, sessions | %d, %d |\n", left.keys, left.sessions)
	s.tally.print(s.out)
	if len(wrong) > 0 {
		return fmt.Errorf("%s", strings.Join(wrong, "; "))
	}
	return nil
}
