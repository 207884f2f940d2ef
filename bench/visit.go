//go:build linux

package main

import (
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"time"

	"maclef/tpmkey"
)

// visitor has other processes come and go: each opens the TPM, loads two keys, uses
// them in every way, and closes; one of three is killed on the way.
func (s *soak) visitor() {
	for s.wait(mathrand.N(2 * time.Second)) {
		a, b := mathrand.IntN(len(s.files)), mathrand.IntN(len(s.files))
		visit := &task{Role: "visit", TPM: s.tpm.name(), Keys: []keyFile{s.files[a], s.files[b]}}
		var err error
		if mathrand.IntN(3) == 0 {
			err = s.killOne(visit)
		} else {
			err = s.oneVisit(visit)
		}
		if err != nil {
			s.tally.count(fmt.Errorf("visitor: %w", err))
		}
	}
}

// killOne kills a visitor on its way. What it leaves in the TPM, whoever needs the place
// has to free.
func (s *soak) killOne(visit *task) error {
	c, err := startChild(visit)
	if err != nil {
		return err
	}
	if err := c.begin(); err != nil {
		return err
	}
	s.wait(mathrand.N(150 * time.Millisecond))
	if c.kill(); c.cmd.ProcessState.Exited() {
		s.visited.Add(1) // it was faster
	} else {
		s.killed.Add(1)
	}
	return nil
}

// visitLimit is longer than any visit.
const visitLimit = 2 * time.Minute

func (s *soak) oneVisit(visit *task) error {
	c, err := startChild(visit)
	if err != nil {
		return err
	}
	if err := c.begin(); err != nil {
		return err
	}
	hung := time.AfterFunc(visitLimit, func() { c.cmd.Process.Kill() })
	defer hung.Stop()
	if err := c.ready(); err != nil {
		return err
	}
	r, err := c.report()
	if err != nil {
		return err
	}
	s.visited.Add(1)
	for text, n := range r.Failed {
		s.tally.add("visitor: "+text, n)
	}
	return nil
}

// visit is the other process.
func (t *task) visit(begin func() error, r *report) error {
	if err := begin(); err != nil {
		return err
	}
	err := whenThere(func() error {
		return useKeys(t.TPM, t.Keys, func(keys []*tpmkey.Key) error {
			for range 1 + mathrand.IntN(4) {
				for _, k := range keys {
					if err := useAll(k); err != nil {
						r.fail(err)
					}
				}
			}
			return nil
		})
	})
	if err != nil {
		r.fail(err)
	}
	return nil
}

// whenThere tries again where there is no TPM: to open one while it is restarted
// is not to be expected to work.
func whenThere(try func() error) error {
	for deadline := time.Now().Add(5 * time.Second); ; {
		err := try()
		if !errors.Is(err, tpmkey.ErrNoTPM) || time.Now().After(deadline) {
			return err
		}
		time.Sleep(20 * time.Millisecond)
	}
}
