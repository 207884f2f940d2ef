//go:build linux

// Bench measures the library against a loop that does nothing but send prebuilt
// commands, and soaks it in restarts and visitors.
//
//	go run ./bench [-quick] [-goals] [-rounds N] [-only TEXT] [-certgen FILE]
//	go run ./bench soak [-n N] [-restarts N] [-visitors N] [-for TIME] [-tolerate TEXT]
//
// Both run on a software TPM of their own, swtpm on a Unix socket, that is made
// for the occasion. Bench prints one table in Markdown; it ends with status 1 if
// something could not be measured, not if it was slow. Soak prints one, too, and
// ends with status 1 if anything at all went wrong.
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

// onInterrupt has cleanup run before this process ends by a signal. Its software
// TPM and its children end with it.
func onInterrupt(cleanup func()) {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	go func() {
		<-signals
		cleanup()
		os.Exit(1)
	}()
}
