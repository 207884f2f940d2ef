package ecryptfs

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
)

// A Server answers the kernel's requests for one token. Make it with NewServer.
type Server struct {
	signature    Signature
	wrap, unwrap func([]byte) ([]byte, error)
	report       func(error)

	answers   *answers
	active    sync.WaitGroup
	wrapped   atomic.Int64
	unwrapped atomic.Int64
}

// NewServer makes a Server for the token of that signature. wrap and unwrap turn
// file keys into wrapped ones and back, of at most 512 bytes; they belong to
// whoever asked and are called from several goroutines. What could not be done is
// handed to report, too; to the process that opened the file it is EIO.
func NewServer(signature Signature, wrap, unwrap func([]byte) ([]byte, error), report func(error)) *Server {
	return &Server{signature: signature, wrap: wrap, unwrap: unwrap, report: report, answers: newAnswers()}
}

// Counts returns how many file keys were wrapped and unwrapped so far. Requests
// that were answered with a key that was known already are not counted.
func (s *Server) Counts() (wrapped, unwrapped int64) { return s.wrapped.Load(), s.unwrapped.Load() }

// receive answers a packet through reply, which is false where the kernel no
// longer waits.
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
	if err != nil { // nothing is known about it that an answer could say
		s.report(fmt.Errorf("read a request of the kernel: %w", err))
		return
	}
	s.handle(r, func(body []byte) bool { return reply(p.answer(r.answer(body)).bytes()) })
}

// handle does what a request asks for.
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
	key, err := s.answers.get(r.body, s.unwrapOnce)
	defer clear(key)
	if err != nil {
		s.report(fmt.Errorf("unwrap a file's key: %w", err))
		reply(nil)
		return
	}
	if reply(key) {
		s.answers.delivered(r.body)
		return
	}
	s.answers.keep(r.body, key)
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
