package main

import (
	"os"
	"os/signal"
	"syscall"

	"maclef/internal/cli"
)

// watchSignals returns a channel that is closed when the user, or the system, wants the
// program to end, and one that has a value when SIGHUP asks for a reload. A second signal to
// end ends it at once. The kernel sends SIGHUP also when the terminal closes: that ends the
// program, unless it was started by nohup.
//
// unwatch stops watching for the start, in which every signal ends the program.
func watchSignals(unwatch func()) (stop, reload <-chan struct{}) {
	closes := !signal.Ignored(syscall.SIGHUP) && cli.HasTerminal()
	incoming := make(chan os.Signal, 8)
	cli.NotifyEnd(incoming)
	signal.Notify(incoming, os.Interrupt) // also if a script's shell had a background job ignore it
	unwatch()
	early := len(incoming) > 0 // the TPM is closed then
	signal.Notify(incoming, syscall.SIGHUP)
	ends, hangups := make(chan struct{}), make(chan struct{}, 1)
	go func() {
		for sig := range incoming {
			if early || sig != syscall.SIGHUP || closes && !cli.HasTerminal() {
				break
			}
			select {
			case hangups <- struct{}{}:
			default: // one is asked for already
			}
		}
		signal.Stop(incoming)
		close(ends)
	}()
	return ends, hangups
}
