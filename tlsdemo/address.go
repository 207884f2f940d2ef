package main

import (
	"errors"
	"fmt"
	"net"
	"strconv"
	"syscall"

	"maclef/internal/cli"
)

// An address is the value of the flag -accept: where to listen. An empty host means
// all interfaces.
type address struct{ host, port string }

// Set reads PORT or HOST:PORT, as openssl s_server takes it.
func (a *address) Set(text string) error {
	host, port := "", text
	if _, err := strconv.ParseUint(text, 10, 64); err != nil {
		if host, port, err = net.SplitHostPort(text); err != nil {
			return errors.New("it takes PORT or HOST:PORT, with an IPv6 address in brackets: [::1]:4433")
		}
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return errors.New("a port is a number from 0 to 65535")
	}
	if host == "*" {
		host = ""
	}
	a.host, a.port = host, port
	return nil
}

func (a *address) String() string {
	if a.host == "" {
		return a.port
	}
	return net.JoinHostPort(a.host, a.port)
}

// listen opens the listener. Its errors tell what to do.
func (a *address) listen() (net.Listener, error) {
	listener, err := net.Listen("tcp", net.JoinHostPort(a.host, a.port))
	if err == nil {
		return listener, nil
	}
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		err = fmt.Errorf("listen on %s: the port is in use", a)
		return nil, cli.WithHint(err, "another program listens there, perhaps a tlsdemo; stop it, or take another port (-accept 0 finds a free one)")
	case errors.Is(err, syscall.EACCES):
		err = fmt.Errorf("listen on %s: no permission", a)
		return nil, cli.WithHint(err, "ports below 1024 are for the administrator; try -accept 4433")
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		err = fmt.Errorf("listen on %s: this machine does not have that address", a)
		return nil, cli.WithHint(err, "a PORT alone listens on all its addresses")
	}
	var op *net.OpError
	if errors.As(err, &op) {
		err = op.Err
	}
	return nil, fmt.Errorf("listen on %s: %w", a, err)
}

// url returns the URL of the server for a browser on this machine. bound is the
// address that the listener got.
func (a *address) url(bound net.Addr) string {
	host := a.host
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "localhost"
	}
	port := a.port
	if tcp, ok := bound.(*net.TCPAddr); ok {
		port = strconv.Itoa(tcp.Port)
	}
	return "https://" + net.JoinHostPort(host, port)
}
