package tpmkey

import "time"

// A sleepWatch notices that the machine was suspended. A TPM may have lost what was
// loaded then, and given the handles to others; to use one could spend a try of
// somebody's secret.
type sleepWatch struct {
	asleep time.Duration // so far
	seen   time.Duration // when that was looked at, since the machine was started
}

// naps shorter than this are none: the two clocks are not read at once.
const shortestNap = 100 * time.Millisecond

// woke reports whether the machine was suspended since the last time, and for how long
// nobody has looked.
func (w *sleepWatch) woke() (ago time.Duration, woke bool) {
	was, before := w.asleep, w.seen
	w.asleep, w.seen = asleep()
	return w.seen - before, before != 0 && w.asleep-was > shortestNap
}
