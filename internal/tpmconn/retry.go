package tpmconn

import "time"

// The pause before a command is repeated grows from firstPause to longestPause.
const (
	firstPause   = 20 * time.Millisecond
	longestPause = 500 * time.Millisecond
)

// A Busy says whether an error means that the TPM is busy.
type Busy int

// Values of Busy.
const (
	NotBusy   Busy = iota // the error is final
	Again                 // the same command will succeed later
	NeedsTest             // like Again; TPM2_SelfTest or TPM_ContinueSelfTest makes it faster
)

// Retry sends a command, and repeats it while the TPM is busy, for at most c.Patience. resent
// reports whether it was repeated. busy classifies the errors of send. selfTest, which may be
// nil, makes the TPM test itself; it is called once at most.
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
