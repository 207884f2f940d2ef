//go:build !linux

package sysfs

// deviceNumber returns nothing: only Linux has these device numbers.
func deviceNumber(string) string { return "" }
