//go:build !linux

package transport

import (
	"context"
	"net"
)

type netStream struct{ net.Conn }

func (netStream) unread() int      { return -1 }
func (netStream) pending() int     { return 0 }
func (netStream) peerClosed() bool { return false }

func dialStream(ctx context.Context, network, address string) (stream, error) {
	dial := new(net.Dialer).DialContext
	if network == "tcp" {
		dial = dialTCP
	}
	conn, err := dial(ctx, network, address)
	if err != nil {
		return nil, err
	}
	return netStream{conn}, nil
}
