//go:build linux

package main

import (
	"fmt"
	"io"
	"maps"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
)

// A tally counts errors by their text.
type tally struct {
	tolerated []string
	bad       atomic.Int64 // those that are not tolerated

	mu     sync.Mutex
	counts map[string]int
}

// tolerate adds a text that does not make errors bad.
func (s *soakSettings) tolerate(text string) error {
	if text == "" {
		return fmt.Errorf("that would be every error")
	}
	s.tolerated = append(s.tolerated, text)
	return nil
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
	if !t.tolerates(text) {
		t.bad.Add(int64(n))
	}
}

func (t *tally) tolerates(text string) bool {
	return slices.ContainsFunc(t.tolerated, func(part string) bool { return strings.Contains(text, part) })
}

// print writes rows of a table.
func (t *tally) print(out io.Writer) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, text := range slices.Sorted(maps.Keys(t.counts)) {
		what := "error"
		if t.tolerates(text) {
			what = "tolerated error"
		}
		fmt.Fprintf(out, "| %s: %s | %d |\n", what, oneLine(text), t.counts[text])
	}
}

// Numbers of processes, handles and files differ from error to error.
var changing = regexp.MustCompile(`0x[0-9a-f]{6,}|\b\d{3,}\b|/tmp/bench\d+`)

// errorText is an error's text without what differs from time to time.
func errorText(err error) string { return changing.ReplaceAllString(err.Error(), "…") }
