//go:build linux

package main

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"errors"
)

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
