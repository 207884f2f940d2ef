package cli

import (
	"errors"
	"time"
)

// defaultWait is -wait: longer than all but the making of keys takes on a chip.
const defaultWait = 30 * time.Second

// noWait is the shortest -wait, and what 0 stands for: as long as a TPM that nobody else uses needs
// to take a program in.
const noWait = 100 * time.Millisecond

// maxWait keeps sums of times in range.
const maxWait = 1000 * time.Hour

// waitValue is the value of -wait.
type waitValue time.Duration

func (v *waitValue) Set(s string) error {
	d, err := time.ParseDuration(s)
	if err != nil || d < 0 || d > maxWait {
		return errors.New("it takes a time such as 500ms, 30s or 5m, or 0")
	}
	*v = waitValue(max(d, noWait))
	return nil
}

func (v *waitValue) String() string { return time.Duration(*v).String() }
