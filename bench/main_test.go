//go:build linux

// Package bench measures the library. In the same rounds it measures a loop that only sends
// prebuilt commands (bare), and other projects. It also runs a soak test: many signatures
// while the TPM restarts. It uses its own software TPMs.
//
//	make bench BENCHFLAGS='-quick -goals' BENCH=Use/tpm=2.0
//	make soak SOAKFLAGS='-n 3000 -restarts 3'
//
// One run of a benchmark is one round; -count sets the number of rounds.
package bench

import (
	"flag"
	"fmt"
	"math"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

// Flags of the benchmarks and the soak test.
var (
	bin        = flag.String("bin", "../bin", "`DIR` of the commands and of peers")
	quick      = flag.Bool("quick", false, "only look whether everything can be measured; the numbers are poor")
	printGoals = flag.Bool("goals", false, "print the goals that were missed")
	soaks      = flag.Bool("soak", false, "run TestSoak")
	signatures = flag.Int64("n", 100_000, "soak: make `N` signatures")
	restarts   = flag.Int("restarts", 20, "soak: kill and start the TPM `N` times")
)

// Size of a round.
var (
	repeats        = 6                      // number of samples of each kind
	sampleTime     = 150 * time.Millisecond // duration of a sample
	longSampleTime = 900 * time.Millisecond // duration of a sample with a slow start, which is taken once
	countedOps     = 200                    // number of operations for which TPM commands are counted
	maxKeys        = 1000
	parallelTime   = 10 * time.Second // duration of signing in several processes
	slowFactor     = 1.0              // of the slow chip; 1 is the speed of the model
)

func TestMain(m *testing.M) {
	if text := os.Getenv(taskEnv); text != "" {
		if err := runTask(text); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	flag.Parse()
	flag.Set("test.benchtime", "1x")
	if *quick {
		repeats, sampleTime, longSampleTime, countedOps, maxKeys = 1, 60*time.Millisecond, 300*time.Millisecond, 20, 50
		parallelTime, slowFactor = 600*time.Millisecond, 0.05
	}
	status := m.Run()
	if *printGoals {
		missedGoals()
	}
	os.Exit(status)
}

func check(tb testing.TB, err error) {
	if err != nil {
		tb.Helper()
		tb.Fatal(err)
	}
}

// A goal says in which range the median of a reported number should be.
type goal struct {
	name, unit  string
	least, most float64
}

// goals has the numbers of all rounds.
var goals = make(map[goal][]float64)

func atLeast(b *testing.B, unit string, value, least float64) {
	within(b, unit, value, least, math.Inf(1))
}

func atMost(b *testing.B, unit string, value, most float64) {
	within(b, unit, value, math.Inf(-1), most)
}

// within reports a number that has a goal.
func within(b *testing.B, unit string, value, least, most float64) {
	b.ReportMetric(0, "ns/op") // not printed
	b.ReportMetric(value, unit)
	g := goal{b.Name(), unit, least, most}
	goals[g] = append(goals[g], value)
}

// missedGoals prints the goals whose rounded medians are out of range.
func missedGoals() {
	var missed []string
	for g, values := range goals {
		tolerance := 0.005
		if strings.HasPrefix(g.unit, "%") {
			tolerance = 0.5
		}
		if got := median(values); got < g.least-tolerance || got > g.most+tolerance {
			missed = append(missed, fmt.Sprintf("Goal missed: %s: %.2f %s, should be %g to %g\n", g.name, got, g.unit, g.least, g.most))
		}
	}
	slices.Sort(missed)
	fmt.Printf("%sGoals: %d of %d missed\n", strings.Join(missed, ""), len(missed), len(goals))
}

func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	middle := len(sorted) / 2
	return (sorted[middle] + sorted[(len(sorted)-1)/2]) / 2
}

// A sample says how often something was done in which time.
type sample struct {
	done           int
	took           time.Duration
	allocs, memory uint64        // objects and bytes
	loading        time.Duration // time to load all keys before
}

func (p sample) perSecond() float64 { return float64(p.done) / p.took.Seconds() }

// alternate takes several samples of each kind in the order A B B A A B B A, so that other
// load on the machine affects all kinds. It returns the sums.
func alternate(repeats int, samplers ...func() sample) []sample {
	sums := make([]sample, len(samplers))
	for turn := range repeats {
		for i := range samplers {
			if turn%2 == 1 {
				i = len(samplers) - 1 - i
			}
			p, sum := samplers[i](), &sums[i]
			*sum = sample{sum.done + p.done, sum.took + p.took, sum.allocs + p.allocs, sum.memory + p.memory, sum.loading + p.loading}
		}
	}
	return sums
}

// percent returns the rate of a sample in per cent of another one's.
func percent(thing, of sample) float64 { return 100 * thing.perSecond() / of.perSecond() }

// compare reports the rates of a sample and of the bare commands, and returns their ratio.
func compare(b *testing.B, bare, thing sample) (ratio float64) {
	b.ReportMetric(0, "ns/op") // not printed
	ratio = percent(thing, bare)
	b.ReportMetric(thing.perSecond(), "op/s")
	b.ReportMetric(bare.perSecond(), "bare/s")
	b.ReportMetric(ratio, "%bare")
	return ratio
}

func (p sample) reportMemory(b *testing.B) {
	b.ReportAllocs()
	b.ReportMetric(float64(p.allocs)/float64(p.done), "allocs/op")
	b.ReportMetric(float64(p.memory)/float64(p.done), "B/op")
}
