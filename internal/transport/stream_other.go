//go:build !linux

package transport

import (
	"context"
	"net"
)

type anyStream struct{ net.Conn }

func (anyStream) unread() int  { return -1 }
func (anyStream) pending() int { return 0 }
func (anyStream) ended() bool  { return false }

func dialStream(ctx context.Context, network, address string) (stream, error) {
	dial := new(net.Dialer).DialContext
	if network == "tcp" {
		dial = dialTCP
	}
	conn, err := dial(ctx, network, address)
	if err != nil {
		return nil, err
	}
	return anyStream{conn}, nil
}
