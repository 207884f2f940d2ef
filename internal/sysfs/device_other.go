//go:build !linux

package sysfs

// deviceNumber is empty: the numbers of TPM devices are Linux's.
func deviceNumber(string) string { return "" }
