//go:build linux

package main

import (
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"
	"time"
)

// A bench is one run of everything that is measured.
type bench struct {
	out, progress io.Writer

	rounds  int
	turns   int           // of each thing in a round
	slice   time.Duration // for which one thing is measured in one turn
	counted int           // operations for which TPM commands are counted
	many    []int         // numbers of keys
	marks   bool          // say where goals are missed
	only    string
	certgen string

	tpm    *softTPM
	priv   *rsa.PrivateKey
	cert   []byte  // of the key, PEM
	plain  keyFile // the key, without a secret
	secret keyFile // the same with one
	files  []keyFile
	slots  int // keys that the TPM has room for

	sign, decrypt  *operation
	missed, failed int
}

func runBench(args []string) error {
	b := &bench{
		out: os.Stdout, progress: os.Stderr, turns: 6, slice: 150 * time.Millisecond, counted: 200,
		many: []int{1, 5, 10, 19, 20, 50, 100, 200, 500, 1000},
	}
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.IntVar(&b.rounds, "rounds", 5, "measure everything `N` times")
	flags.BoolVar(&b.marks, "goals", false, "mark the rows that miss their goal")
	flags.StringVar(&b.only, "only", "", "measure only rows whose name has `TEXT` in it")
	flags.StringVar(&b.certgen, "certgen", "bin/certgen", "measure the start-up of this certgen (`FILE`)")
	quick := flags.Bool("quick", false, "look whether everything can be measured, in about 20 seconds; the numbers are poor")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() > 0 || b.rounds < 1 {
		return errors.New("usage: bench [-quick] [-goals] [-rounds N] [-only TEXT] [-certgen FILE]")
	}
	if *quick {
		b.rounds, b.turns, b.slice, b.counted = 1, 1, 60*time.Millisecond, 20
	}
	var err error
	if b.tpm, err = newSoftTPM(); err != nil {
		return err
	}
	defer b.tpm.remove()
	onInterrupt(b.tpm.remove)
	if err := b.prepare(); err != nil {
		return fmt.Errorf("prepare: %w", err)
	}
	return b.measure()
}

// prepare makes the keys, and what the operations need.
func (b *bench) prepare() error {
	m, err := newMint(b.tpm)
	if err != nil {
		return err
	}
	if b.priv, err = rsa.GenerateKey(rand.Reader, 2048); err != nil {
		return err
	}
	var errs [6]error
	b.cert, errs[0] = selfSigned(b.priv)
	b.plain, errs[1] = m.make("plain", b.priv, "")
	b.secret, errs[2] = m.make("secret", b.priv, "motdepasse")
	b.files, errs[3] = m.makeMany(b.many[len(b.many)-1], b.priv)
	b.sign, errs[4] = newSign(b.priv)
	b.decrypt, errs[5] = newDecrypt(b.priv)
	return errors.Join(errs[:]...)
}

// A measurement fills in a row that has a name.
type measurement struct {
	name    string
	measure func(*row) error
}

// measure prints the table. A row that cannot be measured does not stop others.
func (b *bench) measure() error {
	fmt.Fprint(b.progress, load())
	start := time.Now()
	machine, err := b.machine()
	if err != nil {
		return err
	}
	fmt.Fprint(b.out, machine, "\n", b.method(), "\n", tableHead)
	var all []measurement
	for _, more := range [][]measurement{b.operations(), b.processes(), b.handshakes(), b.startup(), b.memory(), b.manyKeys()} {
		all = append(all, more...)
	}
	for _, m := range all {
		if strings.Contains(m.name, b.only) {
			b.one(m)
		}
	}
	fmt.Fprintf(b.progress, "bench: %d rows failed, %d goals missed, in %v\n", b.failed, b.missed, time.Since(start).Round(time.Second))
	if b.failed > 0 {
		return fmt.Errorf("%d rows could not be measured", b.failed)
	}
	return nil
}

func (b *bench) one(m measurement) {
	start := time.Now()
	r := row{name: m.name}
	if r.failed = m.measure(&r); r.failed != nil {
		b.failed++
	}
	for _, g := range r.goals {
		if !g.met {
			b.missed++
		}
	}
	fmt.Fprint(b.out, r.markdown(b.marks))
	fmt.Fprintf(b.progress, "bench: %s: %v\n", m.name, time.Since(start).Round(10*time.Millisecond))
}

// long is a whole round of one thing, for what is slow to begin.
func (b *bench) long() time.Duration {
	return max(time.Duration(b.turns)*b.slice, 300*time.Millisecond)
}

// method says how the table came about.
func (b *bench) method() string {
	return fmt.Sprintf("Keys of 2048 bits; medians of %d round(s) of about %v. In every round the bare commands were measured, too:\n"+
		"a loop that sends one prebuilt TPM_Sign or TPM_UnBind, for a key without a secret, over a socket that it keeps\n"+
		"open. (An authorized command cannot be prebuilt: its HMAC covers a nonce of the TPM's.) TPM commands were\n"+
		"counted between program and TPM, in runs that were not timed.\n", b.rounds, b.long())
}
