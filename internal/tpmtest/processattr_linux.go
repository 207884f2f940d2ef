package tpmtest

import "syscall"

// lifetime keeps Ctrl-C away from a software TPM, and ends it when the test
// program dies without cleaning up.
func lifetime() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
