package tpmtest

import "syscall"

// processAttr keeps Ctrl-C from a software TPM, and ends it when the test program ends
// without cleanup.
func processAttr() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
