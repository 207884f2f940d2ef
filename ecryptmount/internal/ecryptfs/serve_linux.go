package ecryptfs

import (
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// Serve answers requests on devices until stop is closed. It returns after the last answer, and
// clears all keys.
func (s *Server) Serve(devices []*Device, stop <-chan struct{}) error {
	var ends [2]int
	if err := unix.Pipe2(ends[:], unix.O_CLOEXEC); err != nil {
		return fmt.Errorf("serve eCryptfs: %w", err)
	}
	returned, waker := make(chan struct{}), make(chan struct{})
	go func() { // wakes poll
		defer close(waker)
		select {
		case <-stop:
		case <-returned:
		}
		unix.Close(ends[1])
	}()
	err := s.poll(devices, ends[0])
	close(returned)
	<-waker
	unix.Close(ends[0])
	s.active.Wait()
	s.cache.clear()
	if err != nil {
		return fmt.Errorf("serve eCryptfs: %w", err)
	}
	return nil
}

// poll reads requests until the pipe stop is closed. It needs poll(2) because the device ignores
// O_NONBLOCK.
func (s *Server) poll(devices []*Device, stop int) error {
	waits := []unix.PollFd{{Fd: int32(stop), Events: unix.POLLIN}}
	for _, d := range devices {
		waits = append(waits, unix.PollFd{Fd: int32(d.fd), Events: unix.POLLIN})
	}
	for {
		if _, err := unix.Poll(waits, -1); err == unix.EINTR {
			continue
		} else if err != nil {
			return err
		}
		if waits[0].Revents != 0 {
			return nil
		}
		for i, d := range devices {
			if waits[i+1].Revents == 0 {
				continue
			}
			if err := s.next(d); err != nil {
				return err
			}
		}
	}
}

// next reads one packet and starts answering it. Each packet has its own buffer, which may contain
// a file key and is cleared afterwards.
func (s *Server) next(d *Device) error {
	buf := make([]byte, maxPacket)
	n, err := d.read(buf)
	if err != nil {
		return fmt.Errorf("read %s: %w", DevicePath, err)
	}
	if n == 0 {
		return nil
	}
	s.active.Add(1)
	go func() {
		defer s.active.Done()
		defer clear(buf)
		ready := time.After(replyDelay)
		s.receive(buf[:n], func(b []byte) bool {
			<-ready
			return d.reply(b)
		})
	}()
	return nil
}

// replyDelay is the least time between a request and its reply. The kernel's
// ecryptfs_wait_for_response sleeps without checking whether the reply has already arrived. It
// would notice such a reply only after its whole timeout.
const replyDelay = 5 * time.Millisecond
