//go:build !linux

package tpmtest

import "syscall"

func lifetime() *syscall.SysProcAttr { return nil }
