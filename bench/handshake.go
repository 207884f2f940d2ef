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

	"maclef/tpmkey"
)

// clients is how many there are at a time.
const clients = 8

// A server is a TLS server with a key, and what of it is measured.
type server struct {
	name       string
	version    uint16
	key        keyFile
	cert       []byte  // PEM
	*operation         // of a full handshake
	resume     bool    // measure resumed ones, too
	goal       float64 // ratio to bare commands that full ones should come to; 0 for none
	rival      bool    // compare with openssl s_server
}

// handshakes are the rows of a TLS server in this process and clients in another.
func (b *bench) handshakes() (all []measurement) {
	for _, s := range b.servers {
		all = append(all, measurement{fmt.Sprintf("full handshakes, %s, %d clients", s.name, clients), func(r *row) error {
			return b.fullHandshakes(r, s)
		}})
		if s.resume {
			all = append(all, measurement{fmt.Sprintf("resumed handshakes, %s, %d clients", s.name, clients), func(r *row) error {
				return b.resumedHandshakes(r, s)
			}})
		}
	}
	return all
}

// task is that of the clients.
func (s *server) task() *task {
	return &task{Role: "handshake", Cert: s.cert, Clients: clients, Version: s.version}
}

func (b *bench) fullHandshakes(r *row, s server) error {
	full := s.task()
	full.For = b.slice
	measured, err := inTurns(b.rounds, b.turns,
		func() (pace, error) { return b.bare(s.operation, b.slice) },
		func() (pace, error) { return b.serveFor(s, full) })
	if err != nil {
		return err
	}
	r.compared(measured, 1, 0)
	r.note = "clients in a process of their own, on the same cores"
	if s.goal > 0 {
		r.goals = append(r.goals, atLeast("ratio", s.goal, median(measured.ratios(1, 0))))
	}
	return b.countHandshakes(r, s, full, 1)
}

// resumedHandshakes times them, too: they need no TPM.
func (b *bench) resumedHandshakes(r *row, s server) error {
	resumed := s.task()
	resumed.Resume = b.counted
	var rates []float64
	err := s.key.use(b.tpm.name(), func(k *tpmkey.Key) error {
		for range b.rounds {
			p, err := s.serve(k, resumed)
			if err != nil {
				return err
			}
			rates = append(rates, p.perSecond())
		}
		return nil
	})
	if err != nil {
		return err
	}
	r.rate = fmt.Sprintf("%.0f", median(rates))
	return b.countHandshakes(r, s, resumed, 0)
}

// countHandshakes fills in how many TPM commands a handshake takes. The full ones
// before the first resumed one are not counted.
func (b *bench) countHandshakes(r *row, s server, t *task, most float64) error {
	p, err := newProxy(b.tpm)
	if err != nil {
		return err
	}
	defer p.close()
	return s.key.use(p.name(), func(k *tpmkey.Key) error {
		if err := s.once(k); err != nil { // warms up
			return err
		}
		p.reset()
		done, err := s.serve(k, t)
		if err != nil {
			return err
		}
		others := 0
		if t.Resume > 0 {
			others = t.Clients
		}
		r.counted(p, done.done, others, most)
		return nil
	})
}

// serveFor loads the key, and serves the clients of a task.
func (b *bench) serveFor(s server, t *task) (p pace, err error) {
	err = s.key.use(b.tpm.name(), func(k *tpmkey.Key) error {
		p, err = s.serve(k, t)
		return err
	})
	return p, err
}

// serve has a server with a key serve the clients of a task.
func (s *server) serve(k *tpmkey.Key, t *task) (pace, error) {
	config, err := k.TLSConfigPEM(t.Cert)
	if err != nil {
		return pace{}, err
	}
	listener, err := tls.Listen("tcp", "127.0.0.1:0", config)
	if err != nil {
		return pace{}, err
	}
	var serving crew
	serving.run(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			serving.run(func() { welcome(conn.(*tls.Conn), t.Resume > 0) })
		}
	})
	defer serving.Wait()
	defer listener.Close()
	return t.at(listener.Addr().String())
}

// welcome serves one client, that tells of errors. It reads a byte, where it is to
// resume later: in TLS 1.3 what that takes comes after the handshake.
func welcome(conn *tls.Conn, talk bool) {
	defer conn.Close()
	if conn.Handshake() == nil && talk {
		conn.Write([]byte{0})
	}
	conn.Read(make([]byte, 1)) // until it hangs up
}

// at has the clients of a task come to an address.
func (t *task) at(address string) (pace, error) {
	theirs := *t
	theirs.Address = address
	reports, err := runChildren(&theirs)
	if err != nil {
		return pace{}, err
	}
	return pace{done: reports[0].Done, took: reports[0].Took}, nil
}

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
