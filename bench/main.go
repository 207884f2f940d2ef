//go:build linux

// Bench measures the library against a loop that does nothing but send prebuilt
// commands, and against other projects; and soaks it in restarts and visitors.
//
//	go run ./bench [-quick] [-goals] [-rounds N] [-tpm 1.2|2.0|both] [-only TEXT] [-certgen FILE] [-peers FILE]
//	go run ./bench soak [-n N] [-restarts N] [-visitors N] [-tpm 1.2|2.0|both] [-for TIME]
//
// Both run on software TPMs of their own, of both generations in turn, swtpm on a Unix
// socket, that are made for the occasion. Bench prints a table in Markdown for each;
// it ends with status 1 if something could not be measured, not if it was slow. Soak
// does, too, and ends with status 1 if anything at all went wrong.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	run, args := runBench, os.Args[1:]
	if len(args) > 0 {
		switch args[0] {
		case "soak":
			run, args = runSoak, args[1:]
		case childRole:
			run, args = runChild, args[1:]
		}
	}
	err := run(args)
	if errors.Is(err, flag.ErrHelp) {
		return
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench: error:", err)
		os.Exit(1)
	}
}

// onInterrupt has cleanup run before this process ends by a signal, until stop is
// called. Its software TPM and its children end with it.
func onInterrupt(cleanup func()) (stop func()) {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	go func() {
		if _, ok := <-signals; ok {
			cleanup()
			os.Exit(1)
		}
	}()
	return func() {
		signal.Stop(signals)
		close(signals)
	}
}
