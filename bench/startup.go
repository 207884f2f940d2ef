//go:build linux

package main

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// startup are the rows of what certgen costs, from its start to its end.
func (b *bench) startup() []measurement {
	var all []measurement
	for _, f := range b.starts {
		all = append(all, measurement{fmt.Sprintf("certgen, %s, %s", filepath.Base(f.Path), f.kind()), func(r *row) error {
			return b.runCertgen(r, f)
		}})
	}
	return all
}

func (b *bench) runCertgen(r *row, f keyFile) error {
	times := make([]float64, b.rounds)
	for i := range times {
		start := time.Now()
		if err := b.certificate(b.tpm.name(), f); err != nil {
			return err
		}
		times[i] = float64(time.Since(start)) / float64(time.Millisecond)
	}
	p, err := newProxy(b.tpm)
	if err != nil {
		return err
	}
	defer p.close()
	if err := b.certificate(p.name(), f); err != nil {
		return err
	}
	all, _ := p.count()
	r.commands = fmt.Sprint(all)
	r.note = fmt.Sprintf("%.0f ms (%s): %s", median(times), spread("%.0f", times), p.list())
	if f.Password == "" {
		r.goals = append(r.goals, atMost("commands", float64(b.startCommands), float64(all)))
	}
	return nil
}

func (b *bench) certificate(tpmName string, f keyFile) error {
	args := []string{"-tpm", tpmName, "-key", f.Path, "-host", "localhost", "-out", "-"}
	if f.Password != "" {
		args = append(args, "-key-pass", "pass:"+f.Password)
	}
	var words strings.Builder
	cmd := exec.Command(b.certgen, args...)
	cmd.Stderr = &words
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s: %w: %s", b.certgen, err, strings.TrimSpace(words.String()))
	}
	return nil
}
