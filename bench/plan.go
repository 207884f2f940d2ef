//go:build linux

package main

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"errors"
)

// A plan is what is measured on a TPM of one generation.
type plan struct {
	operations []*operation
	shared     []sharing // by several processes
	slow       []sharing // on a slow chip, by one and by four
	servers    []server
	starts     []keyFile
	once       []once
	// startCommands is how many certgen should take with a key without a secret.
	startCommands int
	many          []crowd
	peers         []peer
}

// A sharing is one operation that so many processes do at once.
type sharing struct {
	*operation
	way       string
	file      keyFile
	processes []int
	least     float64 // of what one process does, that all together should do
}

// A crowd is many keys that one process has, and numbers of them that it uses. They are
// all of one file, which the TPM does not know.
type crowd struct {
	*operation
	name    string
	numbers []int
}

// password is that of every key that has one.
const password = "motdepasse"

// plan makes the keys of a TPM 1.2, and what is done with them.
func (g gen12) plan(b *bench, m mint) (*plan, error) {
	priv, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return nil, err
	}
	var errs [5]error
	var plain, secret keyFile
	var sign, decrypt *operation
	var cert []byte
	plain, errs[0] = m.make("plain", priv, "")
	secret, errs[1] = m.make("secret", priv, password)
	sign, errs[2] = g.newSign(priv)
	decrypt, errs[3] = newDecrypt(priv, decrypt12)
	cert, errs[4] = selfSigned(priv)
	if err := errors.Join(errs[:]...); err != nil {
		return nil, err
	}
	for _, op := range []*operation{sign, decrypt} {
		op.plain, op.secret = plain, secret
		op.fromEach(plain, 1, 8, 64)
		op.fromEach(secret, 1, 8)
		op.fromEach(secret.asked(), 1)
	}
	return &plan{
		operations: []*operation{sign, decrypt},
		shared:     []sharing{{sign, pkcs1, plain, []int{2, 4}, 0.9}, {sign, pkcs1, secret, []int{4}, 0.9}},
		servers:    []server{{name: "TLS 1.2", version: tls.VersionTLS12, key: plain, cert: cert, operation: sign, resume: true, goal: 0.9}},
		starts:     []keyFile{plain, secret}, startCommands: 5,
		many: []crowd{{sign, "keys", b.numbers(1, 10, 20, 50, 200, 1000)}},
	}, nil
}

// keys20 are the private keys of what is measured on a TPM 2.0.
type keys20 struct {
	rsa        *rsa.PrivateKey
	p256, p384 *ecdsa.PrivateKey
}

func newKeys20() (*keys20, error) {
	k := new(keys20)
	var errs [3]error
	k.rsa, errs[0] = rsa.GenerateKey(rand.Reader, 2048)
	k.p256, errs[1] = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	k.p384, errs[2] = ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	return k, errors.Join(errs[:]...)
}

// operations20 are what is done on a TPM 2.0.
type operations20 struct{ pkcs1, pss, p256, p384, decrypt, agree *operation }

func (o *operations20) all() []*operation {
	return []*operation{o.pkcs1, o.pss, o.p256, o.p384, o.decrypt, o.agree}
}

// plan makes the keys of a TPM 2.0, and what is done with them.
func (g gen20) plan(b *bench, m mint) (*plan, error) {
	keys, err := newKeys20()
	if err != nil {
		return nil, err
	}
	ops, err := g.operations(m, keys)
	if err != nil {
		return nil, err
	}
	p := &plan{operations: ops.all(), peers: ops.peers()}
	p.shared = []sharing{
		{ops.pkcs1, pkcs1, ops.pkcs1.plain, []int{2, 4}, 0.9}, {ops.pkcs1, pkcs1, ops.pkcs1.secret, []int{4}, 0.9},
	}
	p.slow = []sharing{
		{ops.p256, p256, ops.p256.plain, nil, 0.75}, {ops.p256, p256, ops.p256.secret, nil, 0.55},
	}
	p.startCommands = 10 // a TPM 2.0 is asked what it is, and its SRK has to be made first
	if err := b.prepareOnces(ops.pkcs1.plain); err != nil {
		return nil, err
	}
	p.once = b.onces(ops.pkcs1.plain, ops.p256.secret, ops.p256.plain)
	p.starts = []keyFile{ops.pkcs1.plain, ops.pkcs1.secret, ops.p256.plain}
	rsaCert, rsaErr := selfSigned(keys.rsa)
	ecCert, ecErr := selfSigned(keys.p256)
	p.servers = []server{
		{name: "TLS 1.3, RSA 2048", version: tls.VersionTLS13, key: ops.pkcs1.plain, cert: rsaCert, operation: ops.pss, resume: true, goal: 0.9, rival: true},
		{name: "TLS 1.3, P-256", version: tls.VersionTLS13, key: ops.p256.plain, cert: ecCert, operation: ops.p256, rival: true},
	}
	p.many = []crowd{{ops.pkcs1, "RSA keys", b.numbers(1, 3, 4, 10, 100, 1000)}, {ops.p256, "P-256 keys", b.numbers(1000)}}
	return p, errors.Join(rsaErr, ecErr)
}

// peers are what go-tpm-keyfiles does as well.
func (o *operations20) peers() []peer {
	return []peer{
		{op: o.pkcs1, way: pkcs1, file: o.pkcs1.plain}, {op: o.pkcs1, way: pkcs1, file: o.pkcs1.plain, stays: true},
		{op: o.p256, way: p256, file: o.p256.plain}, {op: o.p256, way: p256, file: o.p256.plain, stays: true},
		{op: o.p256, way: p256, file: o.p256.secret},
	}
}

// operations makes a key file without a secret and one with it for each key.
func (g gen20) operations(m mint, keys *keys20) (*operations20, error) {
	o := &operations20{
		pss:  g.newSignPSS(keys.rsa),
		p256: g.newSignECDSA(keys.p256, p256),
		p384: g.newSignECDSA(keys.p384, p384),
	}
	var errs [9]error
	o.pkcs1, errs[0] = g.newSignRSA(keys.rsa)
	o.decrypt, errs[1] = newDecrypt(keys.rsa, decrypt20)
	o.agree, errs[2] = newAgree(keys.p256)
	if err := errors.Join(errs[:]...); err != nil {
		return nil, err
	}
	errs[3], errs[4] = makeFiles(m, "rsa", keys.rsa, o.pkcs1, o.pss, o.decrypt)
	errs[5], errs[6] = makeFiles(m, "p256", keys.p256, o.p256, o.agree)
	errs[7], errs[8] = makeFiles(m, "p384", keys.p384, o.p384)
	for _, op := range o.all() {
		op.fromEach(op.plain, 1, 8)
		if op != o.p384 {
			op.fromEach(op.secret, 1, 8)
		}
	}
	for _, op := range []*operation{o.pkcs1, o.p256, o.decrypt, o.agree} {
		op.fromEach(op.secret.asked(), 1)
	}
	return o, errors.Join(errs[:]...)
}

// makeFiles makes the two files of a key for the operations that it has.
func makeFiles(m mint, name string, priv crypto.Signer, ops ...*operation) (plainErr, secretErr error) {
	plain, plainErr := m.make(name, priv, "")
	secret, secretErr := m.make(name+"-secret", priv, password)
	for _, op := range ops {
		op.plain, op.secret = plain, secret
	}
	return plainErr, secretErr
}
