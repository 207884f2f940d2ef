//go:build unix

package main

import "syscall"

// descriptors returns how many files and connections this process may have open. The Go
// runtime has raised the limit as far as it can.
func descriptors() int {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return 256 // what the oldest systems give
	}
	return int(min(uint64(limit.Cur), 1<<20))
}
