//go:build linux

// Package bench measures the library beside a loop that does nothing but send prebuilt
// commands, and beside other projects, in the same rounds; and soaks it in restarts of
// the TPM. All of it runs on software TPMs of its own.
//
//	make bench BENCHFLAGS='-quick -goals' BENCH=Use/tpm=2.0
//	make soak SOAKFLAGS='-n 3000 -restarts 3'
//
// One run of a benchmark is one round; -count says how many there are.
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

// Flags of bench and soak.
var (
	bin        = flag.String("bin", "../bin", "`DIR` of the commands and of peers")
	quick      = flag.Bool("quick", false, "only look whether everything can be measured; the numbers are poor")
	printGoals = flag.Bool("goals", false, "print the goals that were missed")
	soaks      = flag.Bool("soak", false, "run TestSoak")
	signatures = flag.Int64("n", 100_000, "soak: make `N` signatures")
	restarts   = flag.Int("restarts", 20, "soak: kill and start the TPM `N` times")
)

// How much is done in a round.
var (
	turns    = 6                      // of each thing, one after the other
	slice    = 150 * time.Millisecond // for which one thing is measured in a turn
	long     = 900 * time.Millisecond // the same for what is slow to begin, which has one
	counted  = 200                    // operations for which TPM commands are counted
	mostKeys = 1000
	together = 10 * time.Second // for which processes sign together
	slowness = 1.0              // of the slow chip; 1 is that of the model
)

func TestMain(m *testing.M) {
	if text := os.Getenv(taskVariable); text != "" {
		if err := runTask(text); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	flag.Parse()
	flag.Set("test.benchtime", "1x")
	if *quick {
		turns, slice, long, counted, mostKeys = 1, 60*time.Millisecond, 300*time.Millisecond, 20, 50
		together, slowness = 600*time.Millisecond, 0.05
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

// A goal is what the median of a benchmark's number should be.
type goal struct {
	name, unit  string
	least, most float64
}

// goals have the numbers, round by round.
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

// missedGoals prints which medians, rounded, are not what they should be.
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

// A pace is how often something was done in which time.
type pace struct {
	done           int
	took           time.Duration
	allocs, memory uint64        // objects and bytes
	loading        time.Duration // of all keys, before that
}

func (p pace) perSecond() float64 { return float64(p.done) / p.took.Seconds() }

// alternate measures several things, so many turns of each, so that what else goes on in
// the machine meets all of them: A B B A A B B A.
func alternate(turns int, things ...func() pace) []pace {
	sums := make([]pace, len(things))
	for turn := range turns {
		for i := range things {
			if turn%2 == 1 {
				i = len(things) - 1 - i
			}
			p, sum := things[i](), &sums[i]
			*sum = pace{sum.done + p.done, sum.took + p.took, sum.allocs + p.allocs, sum.memory + p.memory, sum.loading + p.loading}
		}
	}
	return sums
}

// percent is a thing's rate in per cent of another's.
func percent(thing, of pace) float64 { return 100 * thing.perSecond() / of.perSecond() }

// compare reports a thing's rate beside that of the bare commands, and returns the ratio.
func compare(b *testing.B, bare, thing pace) (ratio float64) {
	b.ReportMetric(0, "ns/op") // not printed
	ratio = percent(thing, bare)
	b.ReportMetric(thing.perSecond(), "op/s")
	b.ReportMetric(bare.perSecond(), "bare/s")
	b.ReportMetric(ratio, "%bare")
	return ratio
}

func (p pace) reportMemory(b *testing.B) {
	b.ReportAllocs()
	b.ReportMetric(float64(p.allocs)/float64(p.done), "allocs/op")
	b.ReportMetric(float64(p.memory)/float64(p.done), "B/op")
}
