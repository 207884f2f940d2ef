//go:build !linux

package tpmkey

import "time"

// asleep is not known here.
func asleep() (asleep, since time.Duration) { return 0, 0 }
