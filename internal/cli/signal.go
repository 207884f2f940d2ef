package cli

import (
	"os"
	"os/signal"
	"sync"
	"time"
)

// cleanupTime is how long a command may clean up before a signal ends it.
const cleanupTime = 2 * time.Second

// OnSignal calls cleanup when SIGINT, SIGTERM, SIGHUP or SIGQUIT arrives. Then the signal
// ends the process, unless the command also handles it elsewhere. The returned function
// stops watching; it may be called several times, and waits for a cleanup that has begun.
//
// Several calls can be active at once; each runs its cleanup. cleanup runs concurrently
// with the command. After two seconds OnSignal stops waiting for it.
func OnSignal(cleanup func()) (stop func()) {
	return onSignal(func(<-chan os.Signal) { runWithin(cleanupTime, cleanup) })
}

// noteDelay avoids a note about a cleanup that ends quickly.
const noteDelay = 100 * time.Millisecond

// FinishOnSignal is OnSignal for work that must not be interrupted: it waits for cleanup
// without a limit. It prints the note first. A second signal ends the process after the
// note second. A signal that OnSignal sends again counts as the second one while cleanup
// runs.
func (e *Env) FinishOnSignal(cleanup func(), first, second string) (stop func()) {
	return onSignal(func(incoming <-chan os.Signal) {
		e.hideProgress()
		done := make(chan struct{})
		go func() {
			defer close(done)
			cleanup()
		}()
		select {
		case <-done:
			return
		case <-time.After(noteDelay):
			e.NoteNow(first)
		}
		select {
		case <-done:
		case <-incoming:
			e.NoteNow(second)
		}
	})
}

// onSignal calls act at the first signal, with the channel that receives further signals.
// When act returns, it lets the signal end the process.
func onSignal(act func(incoming <-chan os.Signal)) (stop func()) {
	incoming := make(chan os.Signal, 1)
	NotifyEnd(incoming)
	stopped := make(chan struct{})
	finished := make(chan struct{})
	go func() {
		defer close(finished)
		var sig os.Signal
		select {
		case sig = <-incoming:
		case <-stopped:
			signal.Stop(incoming) // earlier signals are in the channel now
			select {
			case sig = <-incoming: // handle it: otherwise it would be lost
				NotifyEnd(incoming)
			default:
				return
			}
		}
		act(incoming)
		signal.Stop(incoming)
		raise(sig)
	}()
	var once sync.Once
	return func() {
		once.Do(func() { close(stopped) })
		<-finished
	}
}

// NotifyEnd sends the signals that end a command to incoming, as signal.Notify does. It
// leaves out the signals that the parent process has ignored (nohup, a shell's background
// job).
func NotifyEnd(incoming chan<- os.Signal) {
	for _, sig := range endingSignals {
		if !signal.Ignored(sig) {
			signal.Notify(incoming, sig)
		}
	}
}

// runWithin runs f and stops waiting for it after limit.
func runWithin(limit time.Duration, f func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	select {
	case <-done:
	case <-time.After(limit):
	}
}
