//go:build !linux

package queue

import "net"

// HungUp cannot tell.
func HungUp(net.Conn) bool { return false }
