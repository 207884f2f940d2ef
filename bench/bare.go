//go:build linux

package main

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"maclef/blob"
	"maclef/internal/tpm12"
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
		conn := tpm12.New(d)
		handle, err := loadDirect(conn, b.plain.Path)
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
		return flushAll(conn)
	})
	return p, err
}

// loadDirect loads a key file under an SRK with the well-known secret.
func loadDirect(conn *tpm12.Conn, path string) (tpm12.Handle, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	key, err := blob.Parse(data)
	if err != nil {
		return 0, err
	}
	return conn.LoadKey2(tpm12.SRK, key.Bytes(), new(tpm12.Secret))
}

func sendChecked(d *direct, cmd []byte) error {
	rsp, err := d.exchange(cmd)
	if err == nil && binary.BigEndian.Uint32(rsp[6:]) != 0 {
		err = fmt.Errorf("the TPM answers %x", rsp)
	}
	return err
}

// flushAll frees everything that is loaded. Nobody else uses the TPM.
func flushAll(conn *tpm12.Conn) error {
	keys, err := conn.LoadedKeys()
	if err != nil {
		return err
	}
	var errs []error
	for _, k := range keys {
		errs = append(errs, conn.FlushSpecific(k))
	}
	sessions, err := conn.Sessions()
	for _, s := range sessions {
		errs = append(errs, conn.FlushSession(s))
	}
	return errors.Join(append(errs, err)...)
}
