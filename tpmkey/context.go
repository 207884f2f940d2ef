package tpmkey

import (
	"context"
	"errors"
	"net"
)

// ErrHungUp: the client for whom the operation was has gone.
var ErrHungUp = errors.New("the client has hung up")

// WithContext returns the same key for operations that somebody waits for no
// longer than ctx: one that waits for its turn is dropped before it reaches the
// TPM, and one that is under way goes on without its caller, whose error wraps the
// context's cause. Of operations with a deadline that cannot all be served in time
// the newest come first. Closing either closes both.
func (k *Key) WithContext(ctx context.Context) *Key {
	return &Key{keyState: k.keyState, ctx: ctx, alive: k.alive}
}

// WithConn is WithContext for an operation that the peer of c waits for, such as
// a TLS client for the handshake's signature: it is dropped as well when the peer
// has hung up, with ErrHungUp. Nothing is read from c. TLSConfig does this by
// itself.
//
// A hang-up is seen on connections that have a file descriptor, themselves or
// under a method NetConn, and on Linux only.
func (k *Key) WithConn(ctx context.Context, c net.Conn) *Key {
	return &Key{keyState: k.keyState, ctx: ctx, alive: func() error {
		if hungUp(c) {
			return ErrHungUp
		}
		return nil
	}}
}
