//go:build linux

package bench

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"maclef/tpmkey"
)

// clients is the number of clients at a time.
const clients = 8

// A server is a TLS server with a key.
type server struct {
	*operation // the operation of a full handshake
	version    uint16
	cert       []byte // PEM
}

func (c *testTPM) server(b *testing.B, operation string, version uint16) *server {
	s := &server{operation: c.operation(b, operation), version: version}
	check(b, c.run("certgen", "-key", s.plain.Path, "-host", "localhost", "-out", c.path("cert"), "-force"))
	var err error
	s.cert, err = os.ReadFile(c.path("cert"))
	check(b, err)
	return s
}

// BenchmarkHandshake measures a TLS server in this process, with 8 clients in a child
// process on the same cores.
func BenchmarkHandshake(b *testing.B) {
	run := func(c *testTPM, b *testing.B, name string, s *server, ratio float64) {
		b.Run(name+"/kind=full", func(b *testing.B) { c.fullHandshakes(b, s, ratio) })
		if ratio > 0 {
			b.Run(name+"/kind=resumed", func(b *testing.B) { c.resumedHandshakes(b, s) })
		}
	}
	eachTPM(b, func(b *testing.B, c *testTPM) {
		if !c.Is20() {
			run(c, b, "tls=1.2/key=rsa", c.server(b, "sign-pkcs1", tls.VersionTLS12), 90)
			return
		}
		run(c, b, "tls=1.3/key=rsa", c.server(b, "sign-pss", tls.VersionTLS13), 90)
		run(c, b, "tls=1.3/key=p256", c.server(b, "sign-p256", tls.VersionTLS13), 0)
	})
}

func (s *server) task() *task { return &task{Role: "handshake", Cert: s.cert, Version: s.version} }

func (c *testTPM) fullHandshakes(b *testing.B, s *server, ratio float64) {
	full := s.task()
	full.For = sampleTime
	p := alternate(repeats,
		func() sample { return c.bare(b, s.operation, sampleTime) },
		func() sample { return c.serve(b, s, full, func() {}) })
	atLeast(b, "%bare", compare(b, p[0], p[1]), ratio)
	front, taken := c.withCounter(b)
	done := front.serve(b, s, full, func() { taken() }).done
	reportCommands(b, taken(), done, 0, 1)
}

// resumedHandshakes measures resumed handshakes, which need no TPM.
func (c *testTPM) resumedHandshakes(b *testing.B, s *server) {
	resumed := s.task()
	resumed.Resume = countedOps
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(c.serve(b, s, resumed, func() {}).perSecond(), "op/s")
	front, taken := c.withCounter(b)
	done := front.serve(b, s, resumed, func() { taken() }).done
	reportCommands(b, taken(), done, clients, 0) // without the full handshakes before
}

// serve loads the key, calls loaded, and serves the clients of a task.
func (c *testTPM) serve(b *testing.B, s *server, t *task, loaded func()) (p sample) {
	check(b, useKeys(c.name(), []keyFile{s.plain}, func(keys []*tpmkey.Key) error {
		k := keys[0]
		if err := s.use(k); err != nil {
			return err
		}
		loaded()
		config, err := k.TLSConfigPEM(t.Cert)
		if err != nil {
			return err
		}
		listener, err := tls.Listen("tcp", "127.0.0.1:0", config)
		if err != nil {
			return err
		}
		defer listener.Close()
		go func() {
			for {
				conn, err := listener.Accept()
				if err != nil {
					return
				}
				go serveClient(conn.(*tls.Conn), t.Resume > 0)
			}
		}()
		p, err = t.runClients(listener.Addr().String())
		return err
	}))
	return p
}

// serveClient serves one client. The client reports errors. If the client will resume the
// session, the server writes a byte: in TLS 1.3 the session ticket comes after the
// handshake.
func serveClient(conn *tls.Conn, talk bool) {
	defer conn.Close()
	if conn.Handshake() == nil && talk {
		conn.Write([]byte{0})
	}
	conn.Read(make([]byte, 1)) // until the client closes the connection
}

// runClients runs the clients of a task with the server at an address.
func (t *task) runClients(address string) (sample, error) {
	theirs := *t
	theirs.Address = address
	results, err := runChildren(func() {}, &theirs)
	if err != nil {
		return sample{}, err
	}
	return sample{done: results[0].Done, took: results[0].Took}, nil
}

// handshake runs the clients, in the child process.
func (t *task) handshake(begin func(), r *result) error {
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(t.Cert) {
		return errors.New("no certificate")
	}
	var configs [clients]*tls.Config
	for i := range configs {
		configs[i] = &tls.Config{RootCAs: roots, ServerName: "localhost", MinVersion: t.Version, MaxVersion: t.Version}
		if t.Resume > 0 {
			configs[i].ClientSessionCache = tls.NewLRUClientSessionCache(1)
			if _, err := t.connect(configs[i]); err != nil {
				return err
			}
		}
	}
	begin()
	var done atomic.Int64
	var failed [clients]error
	start := time.Now()
	inParallel(clients, func(client int) {
		for i := 0; t.Resume > 0 && i < t.Resume || t.Resume == 0 && time.Since(start) < t.For; i++ {
			resumed, err := t.connect(configs[client])
			if err == nil && resumed != (t.Resume > 0) {
				err = fmt.Errorf("resumed: %v", resumed)
			}
			failed[client] = errors.Join(failed[client], err)
			done.Add(1)
		}
	})
	r.Done, r.Took = int(done.Load()), time.Since(start)
	return errors.Join(failed[:]...)
}

// connect does one handshake and closes the connection.
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
