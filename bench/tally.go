//go:build linux

package main

import (
	"fmt"
	"io"
	"maps"
	"regexp"
	"slices"
	"sync"
	"sync/atomic"
)

// A tally counts errors by their text.
type tally struct {
	total atomic.Int64

	mu     sync.Mutex
	counts map[string]int
}

func (t *tally) count(err error) {
	if err != nil {
		t.add(errorText(err), 1)
	}
}

func (t *tally) add(text string, n int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.counts == nil {
		t.counts = make(map[string]int)
	}
	t.counts[text] += n
	t.total.Add(int64(n))
}

// print writes rows of a table.
func (t *tally) print(out io.Writer) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, text := range slices.Sorted(maps.Keys(t.counts)) {
		fmt.Fprintf(out, "| error: %s | %d |\n", oneLine(text), t.counts[text])
	}
}

// Numbers of processes, handles and files differ from error to error.
var changing = regexp.MustCompile(`0x[0-9a-f]{6,}|\b\d{3,}\b|/tmp/bench\d+`)

// errorText is an error's text without what differs from time to time.
func errorText(err error) string { return changing.ReplaceAllString(err.Error(), "…") }
