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

// handshakes are the rows of a TLS server in this process and clients in another.
func (b *bench) handshakes() []measurement {
	return []measurement{
		{fmt.Sprintf("full TLS 1.2 handshakes, %d clients", clients), b.fullHandshakes},
		{fmt.Sprintf("resumed TLS 1.2 handshakes, %d clients", clients), b.resumedHandshakes},
	}
}

func (b *bench) fullHandshakes(r *row) error {
	full := &task{Role: "handshake", Cert: b.cert, Clients: clients, For: b.slice}
	measured, err := inTurns(b.rounds, b.turns,
		func() (pace, error) { return b.bare(b.sign, b.slice) },
		func() (p pace, err error) {
			err = b.plain.use(b.tpm.name(), func(k *tpmkey.Key) error {
				p, err = b.serve(k, full)
				return err
			})
			return p, err
		})
	if err != nil {
		return err
	}
	r.compared(measured, 1, 0)
	r.note = "clients in a process of their own, on the same cores"
	r.goals = append(r.goals, atLeast("ratio", 0.9, median(measured.ratios(1, 0))))
	return b.countHandshakes(r, full, 1)
}

// resumedHandshakes times them, too: they need no TPM.
func (b *bench) resumedHandshakes(r *row) error {
	resumed := &task{Role: "handshake", Cert: b.cert, Clients: clients, Resume: b.counted}
	var rates []float64
	err := b.plain.use(b.tpm.name(), func(k *tpmkey.Key) error {
		for range b.rounds {
			p, err := b.serve(k, resumed)
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
	return b.countHandshakes(r, resumed, 0)
}

// countHandshakes fills in how many TPM commands a handshake takes. The full ones
// before the first resumed one are not counted.
func (b *bench) countHandshakes(r *row, t *task, most float64) error {
	p, err := newProxy(b.tpm)
	if err != nil {
		return err
	}
	defer p.close()
	return b.plain.use(p.name(), func(k *tpmkey.Key) error {
		if err := b.sign.once(k); err != nil { // warms up
			return err
		}
		p.reset()
		done, err := b.serve(k, t)
		if err != nil {
			return err
		}
		commands := p.count()
		if t.Resume > 0 {
			commands -= t.Clients
		}
		each := float64(commands) / float64(done.done)
		r.commands = fmt.Sprintf("%.2f", each)
		r.goals = append(r.goals, atMost("commands", most, each))
		return nil
	})
}

// serve has a server with a key serve the clients of a task.
func (b *bench) serve(k *tpmkey.Key, t *task) (pace, error) {
	config, err := k.TLSConfigPEM(b.cert)
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
			serving.run(func() {
				conn.(*tls.Conn).Handshake() // the client tells of errors
				conn.Read(make([]byte, 1))   // until it hangs up
				conn.Close()
			})
		}
	})
	defer serving.Wait()
	defer listener.Close()
	theirs := *t
	theirs.Address = listener.Addr().String()
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
		configs[i] = &tls.Config{RootCAs: roots, ServerName: "localhost"}
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
	err = client.Handshake()
	return client.ConnectionState().DidResume, err
}
