package ecryptfs

import (
	"errors"
	"fmt"
)

// Messages in packets, numbered as in keystore.c.
const (
	tag64 = 0x40 // kernel: unwrap this
	tag65 = 0x41 // daemon: the file key
	tag66 = 0x42 // kernel: wrap this
	tag67 = 0x43 // daemon: the wrapped file key
)

// maxWrapped is the largest wrapped key in bytes: ECRYPTFS_MAX_ENCRYPTED_KEY_BYTES.
const maxWrapped = 512

// A request of the kernel is to unwrap or to wrap a file key.
//
//	0  0x40 (unwrap) or 0x42 (wrap)
//	1  length and signature of the token: 16 hexadecimal digits
//	   length and body: the wrapped key, or the file key
type request struct {
	tag       byte
	signature string
	body      []byte
}

// parseRequest parses a message of the kernel. The body is a part of b.
func parseRequest(b []byte) (*request, error) {
	if len(b) < 1 || b[0] != tag64 && b[0] != tag66 {
		return nil, errors.New("the request is neither wrap nor unwrap")
	}
	signature, rest, err := cutBlock(b[1:])
	if err != nil {
		return nil, err
	}
	body, rest, err := cutBlock(rest)
	if err != nil {
		return nil, err
	}
	if len(signature) != signatureLen || len(rest) > 0 || len(body) == 0 || len(body) > maxWrapped {
		return nil, fmt.Errorf("a request with a signature of %d bytes, a body of %d, and %d left over",
			len(signature), len(body), len(rest))
	}
	return &request{tag: b[0], signature: string(signature), body: body}, nil
}

// answer returns the message that answers r. A nil body means failure, which the kernel reports as
// EIO.
//
//	0  0x41 or 0x43
//	1  status: 0, or anything else for a failure
//	2  length and body
func (r *request) answer(body []byte) []byte {
	b := append(make([]byte, 0, 4+len(body)), r.tag+1, 0)
	if body == nil {
		b[1] = 1
		return append(b, 0, 0)
	}
	return append(appendLength(b, len(body)), body...)
}
