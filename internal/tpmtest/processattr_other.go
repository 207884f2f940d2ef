//go:build !linux

package tpmtest

import "syscall"

func processAttr() *syscall.SysProcAttr { return nil }
