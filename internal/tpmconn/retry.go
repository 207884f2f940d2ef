package tpmconn

import "time"

// Pauses before a command is sent again.
const (
	firstPause   = 20 * time.Millisecond
	longestPause = 500 * time.Millisecond
)

// A Busy is why a TPM has not carried a command out, and will later.
type Busy int

// What an error says of that.
const (
	NotBusy   Busy = iota // it is no such refusal: it stands
	Again                 // the same command succeeds later
	NeedsTest             // as Again, and faster if the TPM is told to test itself
)

// Retry sends a command, and sends the same bytes again while the TPM says that it is
// busy, for as long as c.Patience. resent says that it did so. busy classifies the
// errors of send; selfTest, which may be nil, tells the TPM to test itself, once.
func (c *Conn[S]) Retry(send func() ([]byte, error), busy func(error) Busy, selfTest func() error) (reply []byte, resent bool, err error) {
	var deadline time.Time
	for pause := firstPause; ; pause = min(2*pause, longestPause) {
		reply, err = send()
		why := busy(err)
		if why == NotBusy {
			return reply, resent, err
		}
		if deadline.IsZero() {
			deadline = time.Now().Add(c.Patience)
		}
		left := time.Until(deadline)
		if left <= 0 {
			return nil, resent, err
		}
		if why == NeedsTest && selfTest != nil {
			if err := selfTest(); err != nil {
				return nil, resent, err
			}
			selfTest = nil
		}
		time.Sleep(min(pause, left))
		resent = true
	}
}
