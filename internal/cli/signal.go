package cli

import (
	"os"
	"os/signal"
	"sync"
	"time"
)

// cleanupTime is how long a command may clean up before a signal ends it.
const cleanupTime = 2 * time.Second

// OnSignal has cleanup called when SIGINT, SIGTERM, SIGHUP or SIGQUIT arrives,
// and then lets the signal do what it would have done: end the process, unless
// the command watches for it elsewhere. The returned function, which may be called
// several times, takes this back; it waits for a cleanup that has begun.
//
// Several may be in force at once; each does its part. cleanup runs beside
// whatever the command is doing. After two seconds it is waited for no longer.
func OnSignal(cleanup func()) (stop func()) {
	return onSignal(func(<-chan os.Signal) { within(cleanupTime, cleanup) })
}

// noteDelay spares the user a note about what is over at once.
const noteDelay = 100 * time.Millisecond

// FinishOnSignal is OnSignal for what must not be cut short: cleanup is waited for
// however long it takes. Then first is noted; a second signal ends the process
// all the same, after the note second. One that OnSignal passes on counts as such
// while cleanup lasts.
func (e *Env) FinishOnSignal(cleanup func(), first, second string) (stop func()) {
	return onSignal(func(incoming <-chan os.Signal) {
		e.hide()
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

// onSignal has act called at the first signal, with the channel on which further
// ones come, and lets the signal have its way when act returns.
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
			signal.Stop(incoming) // what came before is in the channel then
			select {
			case sig = <-incoming: // it shall not get lost; another cleanup may let it end the process
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

// NotifyEnd has the signals that end a command sent to incoming, as signal.Notify
// does, but for those that whoever started it has ignored: nohup, a shell's
// background job.
func NotifyEnd(incoming chan<- os.Signal) {
	for _, sig := range endingSignals {
		if !signal.Ignored(sig) {
			signal.Notify(incoming, sig)
		}
	}
}

// within runs f and gives up waiting for it after limit.
func within(limit time.Duration, f func()) {
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
