//go:build linux

package main

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net"
	"time"
)

// direct sends commands over a socket and does nothing else. It is a go-tpm
// transport.TPM.
type direct struct {
	conn net.Conn
	buf  [4096]byte
}

// Send sends a command and returns the response.
func (d *direct) Send(cmd []byte) ([]byte, error) {
	rsp, err := d.exchange(cmd)
	return bytes.Clone(rsp), err
}

// exchange is Send; the response is good until the next one.
func (d *direct) exchange(cmd []byte) ([]byte, error) {
	if _, err := d.conn.Write(cmd); err != nil {
		return nil, err
	}
	for n := 0; ; {
		m, err := d.conn.Read(d.buf[n:])
		if err != nil {
			return nil, err
		}
		if n += m; n >= 10 && n >= int(binary.BigEndian.Uint32(d.buf[2:])) {
			return d.buf[:n], nil
		}
	}
}

// bare measures the TPM alone: it sends the prebuilt command of an operation, in
// a loop, for a key without a secret, and looks at the result code only.
func (b *bench) bare(op *operation, slice time.Duration) (pace, error) {
	var p pace
	err := b.tpm.direct(func(d *direct) error {
		handle, err := b.tpm.loadDirect(d, op.plain.Path)
		if err != nil {
			return err
		}
		cmd := op.command(handle)
		if err := sendChecked(d, cmd); err != nil { // warms up
			return err
		}
		for start := time.Now(); p.took < slice; p.took = time.Since(start) {
			if err := sendChecked(d, cmd); err != nil {
				return err
			}
			p.done++
		}
		return b.tpm.flushAll(d)
	})
	return p, err
}

func sendChecked(d *direct, cmd []byte) error {
	rsp, err := d.exchange(cmd)
	if err == nil && binary.BigEndian.Uint32(rsp[6:]) != 0 {
		err = fmt.Errorf("the TPM answers %x", rsp)
	}
	return err
}
