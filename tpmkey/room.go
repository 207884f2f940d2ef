package tpmkey

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// roomPause is how long those who asked for room wait before they look.
const roomPause = 20 * time.Millisecond

// lonely is how often it is worth looking again where there is nobody to be asked:
// whoever took the last place may have ended meanwhile.
const lonely = 3

// A roomWait has other processes make room for one operation.
type roomWait struct {
	tpm   *TPM
	until time.Time
	alone int
}

// wait asks for room, and waits a moment for that; why is the TPM's refusal.
func (w *roomWait) wait(ctx context.Context, why error) error {
	t := w.tpm
	if w.until.IsZero() {
		w.until = time.Now().Add(t.wait)
	}
	if t.dev.AskRoom() == 0 {
		// A TPM 1.2 has places enough; there a repetition could try a secret twice whose
		// refusal was changed on its way.
		if w.alone++; w.alone > lonely || t.chip.generation() == tpm12Family {
			return t.explainNoRoom(why)
		}
		if w.alone == 1 && t.freeStrays(why) {
			return nil
		}
	}
	if time.Now().Add(roomPause).After(w.until) {
		return t.explainNoRoom(fmt.Errorf("%w: waited %v for other programs to make room: %w", ErrBusy, t.wait, why))
	}
	return wait(ctx, roomPause)
}

// freeStrays frees what a killed program of this project left behind, as far as that can
// be told from what others have loaded, and reports whether it was anything.
func (t *TPM) freeStrays(why error) (freed bool) {
	t.turn(func() (err error) { // an error: who asked gets the TPM's refusal
		freed, err = t.chip.freeStrays(why, t.claimed)
		return err
	})
	return freed
}

// wait waits, unless ctx ends.
func wait(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return gaveUp(ctx)
	case <-timer.C:
		return nil
	}
}

// roomyTurn is turn for what takes places in the TPM while it lasts: this process's
// keys make room for it, and other processes are asked to. f may be run more than once.
func (t *TPM) roomyTurn(f func() error) error {
	room := roomWait{tpm: t}
	for {
		err := t.turn(func() error { return t.slots.withRoom(f) })
		var lacks *needed
		if !errors.As(err, &lacks) {
			return err
		}
		if err := room.wait(context.Background(), lacks.why); err != nil {
			return err
		}
	}
}
