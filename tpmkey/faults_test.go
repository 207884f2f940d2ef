package tpmkey_test

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"maclef/internal/tpmtest"
)

var (
	onlyFault = flag.String("fault", "", "TestFaults: only the cases whose name contains this")
	faultSeed = flag.Uint64("faultseed", 1, "TestFaults: which bits are flipped, and which cases of TPM 2.0 are left out (0: chosen)")
	allFaults = flag.Bool("allfaults", false, "TestFaults: all cases of TPM 2.0, which takes long")
)

// TestFaults opens a TPM, loads a key, signs, decrypts twice and closes, with one
// fault at each command in turn. Its last word is a table of what was promised and
// not kept: what must never happen, and what has to recover. With -short it tries a few
// faults with each key.
func TestFaults(t *testing.T) {
	tpmtest.Long(t, tpmtest.Stress)
	seed := *faultSeed
	if seed == 0 {
		seed = rand.Uint64()
	}
	if r, w, err := os.Pipe(); err == nil { // the first makes package runtime open files
		r.Close()
		w.Close()
	}
	useFolder(t, hasDisk)
	files, goroutines := openFiles(), runtime.NumGoroutine()
	var findings []*finding
	t.Run("cases", func(t *testing.T) { findings = runFaults(t, listFaults(t, seed)) })
	checkProcess(t, files, goroutines)
	fmt.Printf("faults: %d cases (bits: -faultseed %d)\n", len(findings), seed)
	var unsafe, unrecovered []violation
	missed, recovered := 0, map[recovery][2]int{}
	for _, f := range findings {
		unsafe = append(unsafe, f.unsafe()...)
		unrecovered = append(unrecovered, f.unrecovered()...)
		if !f.past && f.c.class != classOften {
			missed++
		}
		count := recovered[f.c.mustRecover()]
		count[1]++
		if f.allRight() {
			count[0]++
		}
		recovered[f.c.mustRecover()] = count
	}
	t.Logf("%d cases, %d in which the fault did not come up", len(findings), missed)
	t.Logf("right results throughout: %v of those that must recover, %v of those that must recover later, %v of those that may fail [right all]",
		recovered[recovers], recovered[recoversLater], recovered[mayFail])
	traceFaults(t, findings, append(unsafe, unrecovered...))
	reportFaults(t, "never", unsafe)
	reportFaults(t, "recovers", unrecovered)
}

// openFiles returns how many file descriptors are open, where that can be known.
func openFiles() int {
	all, _ := os.ReadDir("/proc/self/fd")
	return len(all)
}

// checkProcess checks that nothing was left in this process.
func checkProcess(t *testing.T, files, goroutines int) {
	deadline := time.Now().Add(faultWatchdog)
	for (openFiles() > files || runtime.NumGoroutine() > goroutines) && time.Now().Before(deadline) {
		time.Sleep(10 * time.Millisecond)
	}
	if n := openFiles(); n > files {
		t.Errorf("%d files are open, %d were before", n, files)
	}
	if n := runtime.NumGoroutine(); n > goroutines {
		t.Errorf("%d goroutines run, %d did before", n, goroutines)
	}
}

func (f *finding) allRight() bool {
	for _, r := range f.results {
		if !r.right(f.c.key) {
			return false
		}
	}
	return !f.hung
}

// listFaults lists the cases of all keys.
func listFaults(t *testing.T, seed uint64) []*faultCase {
	proxies := map[*faultTPM]*tpmtest.Proxy{}
	random := rand.New(rand.NewPCG(seed, 0))
	var all []*faultCase
	for _, k := range faultKeys(t) {
		if proxies[k.tpm] == nil {
			proxies[k.tpm] = k.tpm.start(t)
		}
		plan := planOf(t, proxies[k.tpm], k)
		cases := casesOf(k, plan, random)
		if testing.Short() && *onlyFault == "" {
			cases = sample(cases, random)
		}
		t.Logf("%s: %d cases in %d commands", k.name, len(cases), len(plan))
		for _, c := range cases {
			if strings.Contains(c.String(), *onlyFault) {
				all = append(all, c)
			}
		}
	}
	return all
}

// sample is a few of a key's cases that do not wait, for -short. The seed decides which.
func sample(cases []*faultCase, random *rand.Rand) []*faultCase {
	const few = 2
	cases = slices.DeleteFunc(cases, (*faultCase).slow)
	random.Shuffle(len(cases), func(i, j int) { cases[i], cases[j] = cases[j], cases[i] })
	return cases[:min(few, len(cases))]
}

// Workers of runFaults for each kind of TPM, each with its own: some begin with the
// cases that mostly wait. The others are not run by more than a few at once.
const (
	patientWorkers = 18
	busyWorkers    = 6
	atOnce         = 8
)

// runFaults runs the cases on many TPMs at once.
func runFaults(t *testing.T, cases []*faultCase) []*finding {
	byTPM := map[*faultTPM][]*faultCase{}
	for _, c := range cases {
		byTPM[c.key.tpm] = append(byTPM[c.key.tpm], c)
	}
	var (
		all      sync.WaitGroup
		mu       sync.Mutex
		findings []*finding
		places   = make(chan struct{}, atOnce)
	)
	workers := patientWorkers + busyWorkers
	if testing.Short() {
		workers = 2 // a TPM 1.2 takes longer to start than to run a case
	}
	for tpm, cases := range byTPM {
		slow, quick := faultQueues(cases)
		for i := range min(workers, len(cases)) {
			w := newWorker(tpm.start(t))
			queues := []chan *faultCase{slow, quick}
			if i < busyWorkers {
				queues = []chan *faultCase{quick, slow}
			}
			all.Add(1)
			go func() {
				defer all.Done()
				for _, queue := range queues {
					for c := range queue {
						if !c.slow() {
							places <- struct{}{}
						}
						f := w.run(c)
						if !c.slow() {
							<-places
						}
						mu.Lock()
						findings = append(findings, f)
						mu.Unlock()
					}
				}
			}()
		}
	}
	all.Wait()
	return findings
}

// faultQueues are queues of the cases that mostly wait, and of the others.
func faultQueues(cases []*faultCase) (slow, quick chan *faultCase) {
	slow, quick = make(chan *faultCase, len(cases)), make(chan *faultCase, len(cases))
	for _, c := range cases {
		if c.slow() {
			slow <- c
			continue
		}
		quick <- c
	}
	close(slow)
	close(quick)
	return slow, quick
}

// faultWatchdog is longer than any step may take, on a slow machine.
const faultWatchdog = 30 * time.Second

// run runs a case and looks at what it left.
func (c *faultCase) run(p *tpmtest.Proxy) *finding {
	f := &finding{c: c}
	s := &sequence{key: c.key, proxy: p, deadline: c.deadline()}
	p.Arm(c.index, c.fault)
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.run()
	}()
	for ended := false; !ended; {
		select {
		case <-done:
			ended = true
		case <-time.After(faultWatchdog):
			f.hung = true
			p.HangUp()
		}
	}
	f.exchanges = p.Exchanges()
	f.past = p.Disarm()
	f.results = s.results
	f.notIdle = p.WaitIdle(faultWatchdog)
	if f.notIdle != nil {
		p.HangUp()
	}
	f.look(p)
	return f
}

// look sees what was left in the TPM, and makes it as it was.
func (f *finding) look(p *tpmtest.Proxy) {
	defer p.Revive()
	tpm := f.c.key.tpm
	inside, err := tpm.inside(p)
	if err != nil { // it was left without startup, and has nothing in it
		p.Revive()
		inside, err = tpm.inside(p)
	}
	f.left = inside
	if f.tries > 0 && err == nil {
		err = tpm.forgive(p)
	}
	f.broken = err
}
