package main

import (
	"encoding/binary"
	"errors"
	"slices"
)

// helloLimit is more than any client has to say at first; the longest bring a
// ticket and post-quantum key shares, and have two or three kilobytes.
const helloLimit = 16 << 10

var errLongHello = errors.New("a ClientHello that does not end")

// Of the record and the handshake protocol: RFC 5246, sections 6.2.1 and 7.4.
const (
	recordHeader    = 5
	handshakeHeader = 4
	recordHandshake = 22
	clientHello     = 1
)

// A hello is what a client has sent before crypto/tls begins with it. Until then
// a client costs no more than this, which grows as it speaks.
type hello struct {
	bytes []byte
	next  int // where the record begins that is not complete yet
	said  int // bytes of the handshake message in complete records
	head  [handshakeHeader]byte
}

// readHello reads until there is a complete ClientHello, or until it is certain
// that there will be none: crypto/tls then finds the words for why.
func (c *conn) readHello() error {
	h := &c.hello
	h.bytes = make([]byte, 0, 64)
	for !h.complete() {
		if len(h.bytes) > helloLimit {
			return errLongHello
		}
		if len(h.bytes) == cap(h.bytes) {
			h.bytes = slices.Grow(h.bytes, len(h.bytes))
		}
		n, err := c.Conn.Read(h.bytes[len(h.bytes):cap(h.bytes)])
		h.bytes = h.bytes[:len(h.bytes)+n]
		if err != nil {
			return err
		}
	}
	return nil
}

// complete reports whether a ClientHello is in, or something else.
func (h *hello) complete() bool {
	for len(h.bytes)-h.next >= recordHeader {
		record := h.bytes[h.next:]
		size := int(binary.BigEndian.Uint16(record[3:]))
		if record[0] != recordHandshake || size == 0 || size > helloLimit {
			return true
		}
		payload := record[recordHeader:min(recordHeader+size, len(record))]
		if h.said < handshakeHeader {
			copy(h.head[h.said:], payload)
		}
		if said := h.said + len(payload); said >= handshakeHeader {
			length := int(binary.BigEndian.Uint32(h.head[:]) & 0xFFFFFF)
			if h.head[0] != clientHello || said >= handshakeHeader+length {
				return true
			}
		}
		if len(payload) < size {
			return false
		}
		h.next += recordHeader + size
		h.said += size
	}
	return false
}

// Read gives out the hello first.
func (c *conn) Read(p []byte) (int, error) {
	if len(c.hello.bytes) == 0 {
		return c.Conn.Read(p)
	}
	n := copy(p, c.hello.bytes)
	c.hello.bytes = c.hello.bytes[n:]
	if len(c.hello.bytes) == 0 {
		c.hello.bytes = nil
	}
	return n, nil
}
