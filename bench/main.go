//go:build linux

// Bench measures the library against a loop that does nothing but send prebuilt
// commands, and against other projects; and soaks it in restarts and visitors.
//
//	go run ./bench [-quick] [-goals] [-rounds N] [-tpm 1.2|2.0|both] [-only TEXT] [-certgen FILE] [-peers FILE]
//	go run ./bench soak [-n N] [-restarts N] [-visitors N] [-tpm 1.2|2.0|both] [-for TIME]
//
// Both run on software TPMs of their own, of both generations in turn, swtpm on a Unix
// socket, that are made for the occasion. Bench prints a table in Markdown for each;
// it ends with status 1 if something could not be measured, not if it was slow. Soak
// does, too, and ends with status 1 if anything at all went wrong.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"
)

func main() {
	run, args := runBench, os.Args[1:]
	if len(args) > 0 {
		switch args[0] {
		case "soak":
			run, args = runSoak, args[1:]
		case childRole:
			run, args = runChild, args[1:]
		}
	}
	err := run(args)
	if errors.Is(err, flag.ErrHelp) {
		return
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench: error:", err)
		os.Exit(1)
	}
}

// onInterrupt has cleanup run before this process ends by a signal, until stop is
// called. Its software TPM and its children end with it.
func onInterrupt(cleanup func()) (stop func()) {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	go func() {
		if _, ok := <-signals; ok {
			cleanup()
			os.Exit(1)
		}
	}()
	return func() {
		signal.Stop(signals)
		close(signals)
	}
}

// Settings are those of the command line.
type settings struct {
	out, progress io.Writer

	rounds       int
	turns        int           // of each thing in a round
	slice        time.Duration // for which one thing is measured in one turn
	counted      int           // operations for which TPM commands are counted
	most         int           // keys
	together     time.Duration // for which several processes sign together
	slowness     float64       // of the slow chip; 1 is that of the model
	marks        bool          // say where goals are missed
	only         string
	certgen      string
	peersProgram string
}

// A bench is one run of everything that is measured on a TPM.
type bench struct {
	*settings
	*plan
	tpm *softTPM

	missed, failed int
}

func runBench(args []string) error {
	s := &settings{
		out: os.Stdout, progress: os.Stderr, turns: 6, slice: 150 * time.Millisecond, counted: 200, most: 1000,
		together: 10 * time.Second, slowness: 1,
	}
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.IntVar(&s.rounds, "rounds", 3, "measure everything `N` times")
	flags.BoolVar(&s.marks, "goals", false, "mark the rows that miss their goal")
	flags.StringVar(&s.only, "only", "", "measure only rows whose name has `TEXT` in it")
	flags.StringVar(&s.certgen, "certgen", "bin/certgen", "measure the start-up of this certgen (`FILE`)")
	flags.StringVar(&s.peersProgram, "peers", "bin/peers", "compare with the signers in this program (`FILE`)")
	which := flags.String("tpm", "both", "measure on this generation of TPM: `1.2`, 2.0 or both")
	quick := flags.Bool("quick", false, "look whether everything can be measured, in about 40 seconds; the numbers are poor")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() > 0 || s.rounds < 1 {
		return errors.New("usage: bench [-quick] [-goals] [-rounds N] [-tpm 1.2|2.0|both] [-only TEXT] [-certgen FILE] [-peers FILE]")
	}
	all, err := generations(*which)
	if err != nil {
		return err
	}
	if *quick {
		s.rounds, s.turns, s.slice, s.counted, s.most = 1, 1, 60*time.Millisecond, 20, 50
		s.together, s.slowness = 600*time.Millisecond, 0.05
	}
	fmt.Fprint(s.progress, load())
	fmt.Fprint(s.out, s.method())
	var errs []error
	for _, g := range all {
		if err := s.run(g); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", g, err))
		}
	}
	return errors.Join(errs...)
}

// run measures everything on a TPM of one generation.
func (s *settings) run(g generation) error {
	b := &bench{settings: s}
	var err error
	if b.tpm, err = newSoftTPM(g); err != nil {
		return err
	}
	defer b.tpm.remove()
	defer onInterrupt(b.tpm.remove)()
	m, err := g.newMint(b.tpm)
	if err == nil {
		b.plan, err = g.plan(b, m)
	}
	if err != nil {
		return fmt.Errorf("prepare: %w", err)
	}
	return b.measure()
}

// numbers are those numbers of keys that there is time for, and the most if that is
// none of them.
func (s *settings) numbers(all ...int) []int {
	fit := slices.DeleteFunc(slices.Clone(all), func(n int) bool { return n > s.most })
	if len(fit) == 0 {
		return []int{s.most}
	}
	return fit
}

// A measurement fills in a row that has a name.
type measurement struct {
	name    string
	measure func(*row) error
}

// measure prints the table. A row that cannot be measured does not stop others.
func (b *bench) measure() error {
	start := time.Now()
	chip, err := b.chip()
	if err != nil {
		return err
	}
	fmt.Fprint(b.out, "\n", chip, "\n", tableHead)
	for _, group := range [][]measurement{
		b.uses(), b.processes(), b.slowChip(), b.handshakes(), b.rivals(), b.startup(), b.firsts(), b.memory(), b.manyKeys(),
	} {
		for _, m := range group {
			if strings.Contains(m.name, b.only) {
				b.one(m)
			}
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
func (s *settings) long() time.Duration {
	return max(time.Duration(s.turns)*s.slice, 300*time.Millisecond)
}

// method names the machine, and says how the tables came about.
func (s *settings) method() string {
	return fmt.Sprintf("Machine: %s; all programs and the TPM share the cores.\n\n"+
		"RSA keys of 2048 bits; medians of %d round(s) of about %v, of %v where processes sign together, and one of twice that on\n"+
		"the slow chip, which is the same TPM 2.0 with each command delayed: 300 ms for a signature, 90 to bring a key in, 280 for a\n"+
		"session. In every round the bare commands were measured, too:\n"+
		"a loop that sends one prebuilt command (TPM_Sign, TPM_UnBind; TPM2_Sign, TPM2_RSA_Decrypt, TPM2_ECDH_ZGen) for a\n"+
		"loaded key without a secret, over a socket that it keeps open. (An authorized command cannot be prebuilt: its HMAC\n"+
		"covers a nonce of the TPM's.) TPM commands were counted between program and TPM, in runs that were not timed; those within a turn are\n"+
		"without the ones that bring keys and sessions in and take them out.\n",
		machine(), s.rounds, s.long(), s.together)
}
