package ecryptfs

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// Packet types: ECRYPTFS_MSG_REQUEST and ECRYPTFS_MSG_RESPONSE.
const (
	packetRequest  = 102
	packetResponse = 103
)

// maxPacket is the longest packet of the kernel in bytes: MAX_MSG_PKT_SIZE of miscdev.c.
const maxPacket = 1 + 4 + 2 + 8 + 4 + maxWrapped

// A packet is what one read or write of /dev/ecryptfs transfers:
//
//	0  type
//	1  counter, big-endian
//	5  length of the rest: one or two bytes
//	   index, little-endian
//	   length of data, little-endian
//	   data
//
// Counter and index identify the request.
type packet struct {
	kind    byte
	counter uint32
	index   uint32
	data    []byte
}

// errAbandoned is a packet without a message: the kernel stopped waiting before the request was
// read.
var errAbandoned = errors.New("the kernel no longer waits for this request")

// parsePacket parses a packet of the kernel. Its data are a part of b.
func parsePacket(b []byte) (*packet, error) {
	if len(b) == 5 {
		return nil, errAbandoned
	}
	if len(b) < 5 || len(b) > maxPacket {
		return nil, fmt.Errorf("a packet of %d bytes", len(b))
	}
	p := &packet{kind: b[0], counter: binary.BigEndian.Uint32(b[1:])}
	body, rest, err := cutBlock(b[5:])
	if err != nil {
		return nil, err
	}
	if len(rest) > 0 || len(body) < 8 || uint64(binary.LittleEndian.Uint32(body[4:])) != uint64(len(body)-8) {
		return nil, errors.New("the lengths in a packet contradict each other")
	}
	p.index, p.data = binary.LittleEndian.Uint32(body), body[8:]
	return p, nil
}

func (p *packet) bytes() []byte {
	b := append(make([]byte, 0, maxPacket), p.kind)
	b = binary.BigEndian.AppendUint32(b, p.counter)
	b = appendLength(b, 8+len(p.data))
	b = binary.LittleEndian.AppendUint32(b, p.index)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(p.data)))
	return append(b, p.data...)
}

// answer returns the packet that answers p.
func (p *packet) answer(data []byte) *packet {
	return &packet{kind: packetResponse, counter: p.counter, index: p.index, data: data}
}
