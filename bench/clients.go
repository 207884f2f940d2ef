//go:build linux

package main

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"
)

// handshake is the clients' process.
func (t *task) handshake(begin func() error, r *report) error {
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(t.Cert) {
		return errors.New("no certificate")
	}
	configs := make([]*tls.Config, t.Clients)
	for i := range configs {
		configs[i] = &tls.Config{RootCAs: roots, ServerName: "localhost", MinVersion: t.Version, MaxVersion: t.Version}
		if t.Resume > 0 {
			configs[i].ClientSessionCache = tls.NewLRUClientSessionCache(1)
			if _, err := t.connect(configs[i]); err != nil {
				return err
			}
		}
	}
	if err := begin(); err != nil {
		return err
	}
	var group crew
	var mu sync.Mutex
	start := time.Now()
	for _, config := range configs {
		group.run(func() {
			for i := 0; t.Resume > 0 && i < t.Resume || t.Resume == 0 && time.Since(start) < t.For; i++ {
				resumed, err := t.connect(config)
				if err == nil && resumed != (t.Resume > 0) {
					err = fmt.Errorf("resumed: %v", resumed)
				}
				mu.Lock()
				if err != nil {
					r.fail(err)
				}
				r.Done++
				mu.Unlock()
			}
		})
	}
	group.Wait()
	r.Took = time.Since(start)
	return nil
}

// connect does one handshake, and hangs up.
func (t *task) connect(config *tls.Config) (resumed bool, err error) {
	conn, err := net.DialTimeout("tcp", t.Address, 10*time.Second)
	if err != nil {
		return false, err
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(time.Minute))
	client := tls.Client(conn, config)
	if err = client.Handshake(); err == nil && t.Resume > 0 {
		_, err = client.Read(make([]byte, 1))
	}
	return client.ConnectionState().DidResume, err
}
