//go:build linux

package main

import (
	"crypto"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"slices"

	"maclef/blob"
)

// A generation is what differs between TPM 1.2 and TPM 2.0 when one speaks to a TPM
// past the library.
type generation interface {
	String() string
	// flags are swtpm's.
	flags() []string
	// hello is a command that a TPM obeys once it runs.
	hello() []byte
	// newMint makes a new TPM ready to have keys.
	newMint(s *softTPM) (mint, error)
	// plan makes the keys that are measured, and says how.
	plan(b *bench, m mint) (*plan, error)
	// soakKeys are private keys for the soak; of each there are two key files.
	soakKeys() ([]crypto.Signer, error)
	// load loads a key file without a secret under a parent without one.
	load(d *direct, key *blob.Key) (handle uint32, err error)
	// left lists what is loaded; flush frees it.
	left(d *direct) (keys, sessions []uint32, err error)
	flush(d *direct, handle uint32, session bool) error
	// harden has the TPM not lock anybody out, however often it is restarted.
	harden(d *direct) error
	// shutdown prepares it for a restart, where there is such a thing.
	shutdown(d *direct) error
}

// A mint makes key files for a software TPM, of keys made in software: that is quick,
// and what comes out of them is known.
type mint interface {
	// make writes a key file; an empty password makes a key without a secret.
	make(name string, priv crypto.Signer, password string) (keyFile, error)
}

// generations are those that a flag asks for.
func generations(name string) ([]generation, error) {
	all := []generation{gen12{}, gen20{}}
	if name == "both" {
		return all, nil
	}
	i := slices.IndexFunc(all, func(g generation) bool { return g.String() == "TPM "+name })
	if i < 0 {
		return nil, fmt.Errorf("-tpm %s: there are 1.2, 2.0 and both", name)
	}
	return all[i : i+1], nil
}

// message is a command of either generation.
func message(tag uint16, code uint32, parts ...any) []byte {
	b := binary.BigEndian.AppendUint16(nil, tag)
	b = binary.BigEndian.AppendUint32(b, 0) // set below
	b = binary.BigEndian.AppendUint32(b, code)
	for _, part := range parts {
		var err error
		if b, err = binary.Append(b, binary.BigEndian, part); err != nil {
			panic(err) // of a part that is no bytes and no number
		}
	}
	binary.BigEndian.PutUint32(b[2:], uint32(len(b)))
	return b
}

// loadDirect loads a key file.
func (s *softTPM) loadDirect(d *direct, path string) (uint32, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	key, err := blob.Parse(data)
	if err != nil {
		return 0, err
	}
	return s.generation.load(d, key)
}

// flushAll frees everything that is loaded. Nobody else uses the TPM.
func (s *softTPM) flushAll(d *direct) error {
	keys, sessions, err := s.generation.left(d)
	errs := []error{err}
	for _, h := range keys {
		errs = append(errs, s.generation.flush(d, h, false))
	}
	for _, h := range sessions {
		errs = append(errs, s.generation.flush(d, h, true))
	}
	return errors.Join(errs...)
}
