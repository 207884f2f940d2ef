//go:build linux

package main

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"maclef/tpmkey"
)

// uses are the rows of signing, decrypting and agreeing in one process.
func (b *bench) uses() (all []measurement) {
	for _, op := range b.operations {
		for _, how := range op.how {
			name := fmt.Sprintf("%s, %s", op.name, how.file.kind())
			if how.goroutines > 1 {
				name += fmt.Sprintf(", %d goroutines", how.goroutines)
			}
			all = append(all, measurement{name, func(r *row) error { return b.operation(r, op, how) }})
		}
	}
	return all
}

func (b *bench) operation(r *row, op *operation, how usage) error {
	measured, err := inTurns(b.rounds, b.turns,
		func() (pace, error) { return b.bare(op, b.slice) },
		func() (p pace, err error) {
			err = how.file.use(b.tpm.name(), func(k *tpmkey.Key) error {
				if err := op.warmUp(k); err != nil {
					return err
				}
				p, err = op.repeat(func() *tpmkey.Key { return k }, how.goroutines, b.slice)
				return err
			})
			return p, err
		})
	if err != nil {
		return err
	}
	r.compared(measured, 1, 0)
	r.goals = append(r.goals, atLeast("ratio", 0.97, median(measured.ratios(1, 0))))
	return b.countCommands(r, how.file, op.once)
}

// countCommands fills in how many TPM commands a use of a loaded key takes, from
// the second use on.
func (b *bench) countCommands(r *row, f keyFile, use func(*tpmkey.Key) error) error {
	p, err := newProxy(b.tpm)
	if err != nil {
		return err
	}
	defer p.close()
	return f.use(p.name(), func(k *tpmkey.Key) error {
		if err := use(k); err != nil {
			return err
		}
		p.reset()
		for range b.counted {
			if err := use(k); err != nil {
				return err
			}
		}
		r.counted(p, b.counted, 0, 1)
		return nil
	})
}

// memory are the rows of what an operation allocates.
func (b *bench) memory() (all []measurement) {
	for _, op := range b.operations {
		for _, f := range []keyFile{op.plain, op.secret} {
			all = append(all, measurement{fmt.Sprintf("memory: %s, %s", op.name, f.kind()), func(r *row) error {
				return f.use(b.tpm.name(), func(k *tpmkey.Key) (err error) {
					r.note, err = b.allocations(op, k)
					return err
				})
			}})
		}
	}
	return all
}

// allocations says what an operation allocates, on the average of many, everything
// that the library does besides included.
func (b *bench) allocations(op *operation, k *tpmkey.Key) (string, error) {
	if err := op.once(k); err != nil {
		return "", err
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range b.counted {
		if err := op.once(k); err != nil {
			return "", err
		}
	}
	runtime.ReadMemStats(&after)
	n := uint64(b.counted)
	return fmt.Sprintf("%d allocations, %d bytes each", (after.Mallocs-before.Mallocs+n/2)/n,
		(after.TotalAlloc-before.TotalAlloc+n/2)/n), nil
}

// direct sends commands over a socket and does nothing else. It is a go-tpm
// transport.TPM.
type direct struct {
	conn net.Conn
	buf  [4096]byte
}

// Send sends a command and returns the response.
func (d *direct) Send(cmd []byte) ([]byte, error) {
	rsp, err := d.exchange(cmd)
	return bytes.Clone(rsp), err
}

// exchange is Send; the response is good until the next one.
func (d *direct) exchange(cmd []byte) ([]byte, error) {
	if _, err := d.conn.Write(cmd); err != nil {
		return nil, err
	}
	for n := 0; ; {
		m, err := d.conn.Read(d.buf[n:])
		if err != nil {
			return nil, err
		}
		if n += m; n >= 10 && n >= int(binary.BigEndian.Uint32(d.buf[2:])) {
			return d.buf[:n], nil
		}
	}
}

// bare measures the TPM alone: it sends the prebuilt command of an operation, in
// a loop, for a key without a secret, and looks at the result code only.
func (b *bench) bare(op *operation, slice time.Duration) (pace, error) {
	var p pace
	err := b.tpm.direct(func(d *direct) error {
		handle, err := b.tpm.loadDirect(d, op.plain.Path)
		if err != nil {
			return err
		}
		cmd := op.command(handle)
		if err := sendChecked(d, cmd); err != nil { // warms up
			return err
		}
		for start := time.Now(); p.took < slice; p.took = time.Since(start) {
			if err := sendChecked(d, cmd); err != nil {
				return err
			}
			p.done++
		}
		return b.tpm.flushAll(d)
	})
	return p, err
}

func sendChecked(d *direct, cmd []byte) error {
	rsp, err := d.exchange(cmd)
	if err == nil && binary.BigEndian.Uint32(rsp[6:]) != 0 {
		err = fmt.Errorf("the TPM answers %x", rsp)
	}
	return err
}

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
