package tpmkey

import (
	"time"

	"golang.org/x/sys/unix"
)

// asleep is for how long the machine has been suspended since it was started, and since
// is the time since then.
func asleep() (asleep, since time.Duration) {
	var awake, all unix.Timespec
	if unix.ClockGettime(unix.CLOCK_MONOTONIC, &awake) != nil || unix.ClockGettime(unix.CLOCK_BOOTTIME, &all) != nil {
		return 0, 0
	}
	since = time.Duration(all.Nano())
	return since - time.Duration(awake.Nano()), since
}
