package main

import (
	"fmt"
	"maclef/internal/tpmtest"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"
)

// silent opens so many connections, from an address of this machine unless it is
// empty, and says first on each.
func (r *rig) silent(addr, from string, n int, first []byte) []net.Conn {
	r.t.Helper()
	dialer := &net.Dialer{Timeout: 20 * time.Second, KeepAlive: -1}
	if from != "" {
		dialer.LocalAddr = &net.TCPAddr{IP: net.ParseIP(from)}
	}
	conns := make([]net.Conn, n)
	var wg sync.WaitGroup
	next := make(chan int)
	for range 32 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for i := range next {
				c, err := dialer.Dial("tcp", addr)
				if err != nil {
					r.t.Error(err)
					continue
				}
				c.Write(first) // it may be closed already
				conns[i] = c
			}
		}()
	}
	for i := range conns {
		next <- i
	}
	close(next)
	wg.Wait()
	r.t.Cleanup(func() {
		for _, c := range conns {
			if c != nil {
				c.Close()
			}
		}
	})
	return conns
}

// resident is the memory of a process in KB, 0 where nobody can tell.
func resident(pid int) (kb int) {
	status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	for line := range strings.Lines(string(status)) {
		fmt.Sscanf(line, "VmRSS: %d kB", &kb)
	}
	return kb
}

// Ten thousand clients that say nothing, or not all: somebody who comes then is
// served as if they were not there.
func TestTenThousandSilentClients(t *testing.T) {
	tpmtest.Long(t, "it opens 10,000 connections")
	n := min(10000, descriptors()-200)
	whole := helloOf(t)
	for name, first := range map[string][]byte{
		"nothing": nil, "one byte": whole[:1], "half a hello": whole[:len(whole)/2], "a long record": {22, 3, 1, 0x40, 0, 1},
	} {
		t.Run(name, func(t *testing.T) {
			p := newRig(t, "rsa1024", nil).start()
			p.get()
			before := resident(p.cmd.Process.Pid)
			begin := time.Now()
			p.silent(p.addr, "", n, first)
			came := time.Since(begin)
			begin = time.Now()
			p.get()
			served := time.Since(begin)
			after := resident(p.cmd.Process.Pid)
			t.Logf("%d clients came in %v; the next was served in %v; memory %d MB, before it %d MB: %.1f KB for each",
				n, came, served, after>>10, before>>10, float64(after-before)/float64(n))
			if served > 8*time.Second {
				t.Error("too late")
			}
		})
	}
}
