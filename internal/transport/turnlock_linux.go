package transport

import (
	"os"
	"syscall"
	"time"
)

// turnLock lets one process at a time use the TPM. Whoever waits for it holds
// queue.lock, so that one who releases it and wants it again comes after it.
type turnLock struct {
	queue, turn *os.File
}

func newTurnLock(dir string) (*turnLock, error) {
	queue, err := openLock(dir, "queue.lock")
	if err != nil {
		return nil, err
	}
	turn, err := openLock(dir, "turn.lock")
	if err != nil {
		queue.Close()
		return nil, err
	}
	return &turnLock{queue, turn}, nil
}

// take waits for the turn within a limit, else errLocked.
func (t *turnLock) take(limit time.Duration) error {
	deadline := time.Now().Add(limit)
	if err := lock(t.queue, syscall.LOCK_EX, limit); err != nil {
		return err
	}
	defer unlock(t.queue)
	return lock(t.turn, syscall.LOCK_EX, time.Until(deadline))
}

func (t *turnLock) release() { unlock(t.turn) }

func (t *turnLock) close() {
	t.queue.Close()
	t.turn.Close()
}
