package ecryptfs

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
)

// A Server answers the kernel's requests for one token.
type Server struct {
	signature    Signature
	wrap, unwrap func([]byte) ([]byte, error)
	report       func(error)

	cache     *keyCache
	active    sync.WaitGroup
	wrapped   atomic.Int64
	unwrapped atomic.Int64
}

// NewServer returns a Server for a token. wrap and unwrap convert file keys to wrapped keys of at
// most 512 bytes and back. They are called from several goroutines, and the caller owns what they
// return. report gets every failure; the process that opened the file gets EIO.
func NewServer(signature Signature, wrap, unwrap func([]byte) ([]byte, error), report func(error)) *Server {
	return &Server{signature: signature, wrap: wrap, unwrap: unwrap, report: report, cache: newKeyCache()}
}

// Counts returns the number of file keys wrapped and unwrapped so far. It does not count requests
// that were answered from the cache.
func (s *Server) Counts() (wrapped, unwrapped int64) { return s.wrapped.Load(), s.unwrapped.Load() }

// receive answers a packet with reply, which returns false if the kernel no longer waits.
func (s *Server) receive(raw []byte, reply func([]byte) bool) {
	p, err := parsePacket(raw)
	if errors.Is(err, errAbandoned) {
		return
	}
	if err == nil && p.kind != packetRequest {
		err = fmt.Errorf("a packet of type %d", p.kind)
	}
	if err != nil {
		s.report(fmt.Errorf("read a request of the kernel: %w", err))
		return
	}
	r, err := parseRequest(p.data)
	if err != nil { // such a request cannot be answered
		s.report(fmt.Errorf("read a request of the kernel: %w", err))
		return
	}
	s.handle(r, func(body []byte) bool { return reply(p.answer(r.answer(body)).bytes()) })
}

func (s *Server) handle(r *request, reply func([]byte) bool) {
	if Signature(r.signature) != s.signature {
		s.report(fmt.Errorf("a file needs the token %q, and this is %s", r.signature, s.signature))
		reply(nil)
		return
	}
	if r.tag == tag66 {
		s.handleWrap(r, reply)
		return
	}
	key, err := s.cache.get(r.body, s.unwrapOnce)
	defer clear(key)
	if err != nil {
		s.report(fmt.Errorf("unwrap a file's key: %w", err))
		reply(nil)
		return
	}
	if reply(key) {
		s.cache.delivered(r.body)
		return
	}
	s.cache.keep(r.body, key)
	s.report(errors.New("a file's key came too late for the kernel; it is kept for the next try"))
}

func (s *Server) handleWrap(r *request, reply func([]byte) bool) {
	wrapped, err := s.wrap(r.body)
	if err != nil {
		s.report(fmt.Errorf("wrap a file's key: %w", err))
		reply(nil)
		return
	}
	s.wrapped.Add(1)
	reply(wrapped)
}

func (s *Server) unwrapOnce(wrapped []byte) ([]byte, error) {
	key, err := s.unwrap(wrapped)
	if err == nil {
		err = CheckFileKey(key)
	}
	if err != nil {
		clear(key)
		return nil, err
	}
	s.unwrapped.Add(1)
	return key, nil
}
