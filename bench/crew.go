//go:build linux

package main

import "sync"

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
