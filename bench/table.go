//go:build linux

package main

import (
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"maclef/tpmkey"
)

// A row is one line of the table; what it has not is empty.
type row struct {
	name     string
	rate     string // operations a second
	bare     string // bare commands a second, measured in the same rounds
	ratio    string // the median of the rounds' ratios
	spread   string // the lowest and the highest of them
	commands string // TPM commands for an operation
	note     string
	goals    []goal
	failed   error
}

// A goal is what a row should come to.
type goal struct {
	text string
	met  bool
}

// atLeast and atMost are goals for a number as it is printed.
func atLeast(what string, least, got float64) goal {
	return goal{fmt.Sprintf("%s ≥ %g", what, least), got >= least-0.005}
}

func atMost(what string, most, got float64) goal {
	return goal{fmt.Sprintf("%s ≤ %g", what, most), got <= most+0.005}
}

const tableHead = `| | a second | bare commands a second | ratio | its spread | TPM commands each | goal | |
|---|--:|--:|--:|:-:|--:|---|---|
`

// markdown is the row as the table has it. With marks, goals that were missed say
// so.
func (r *row) markdown(marks bool) string {
	var goals []string
	for _, g := range r.goals {
		if marks && !g.met {
			g.text += " **missed**"
		}
		goals = append(goals, g.text)
	}
	note := r.note
	if r.failed != nil {
		note = "**failed**: " + oneLine(r.failed.Error())
	}
	cells := []string{r.name, r.rate, r.bare, r.ratio, r.spread, r.commands, strings.Join(goals, ", "), note}
	return "| " + strings.Join(cells, " | ") + " |\n"
}

// oneLine makes a text fit a cell.
func oneLine(s string) string {
	return strings.NewReplacer("\n", "; ", "|", "/").Replace(s)
}

// compared fills in a thing's rate and its ratio to the bare commands.
func (r *row) compared(measured rates, thing, bare int) {
	ratios := measured.ratios(thing, bare)
	format := "%.0f"
	if measured.median(bare) < 10 {
		format = "%.2f"
	}
	r.rate = fmt.Sprintf(format, measured.median(thing))
	r.bare = fmt.Sprintf(format, measured.median(bare))
	r.ratio = fmt.Sprintf("%.2f", median(ratios))
	r.spread = spread("%.2f", ratios)
}

// A tally counts errors by their text.
type tally struct {
	total atomic.Int64

	mu     sync.Mutex
	counts map[string]int
}

func (t *tally) count(err error) {
	if err != nil {
		t.add(errorText(err), 1)
	}
}

func (t *tally) add(text string, n int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.counts == nil {
		t.counts = make(map[string]int)
	}
	t.counts[text] += n
	t.total.Add(int64(n))
}

// print writes rows of a table.
func (t *tally) print(out io.Writer) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, text := range slices.Sorted(maps.Keys(t.counts)) {
		fmt.Fprintf(out, "| error: %s | %d |\n", oneLine(text), t.counts[text])
	}
}

// Numbers of processes, handles and files differ from error to error.
var changing = regexp.MustCompile(`0x[0-9a-f]{6,}|\b\d{3,}\b|/tmp/bench\d+`)

// errorText is an error's text without what differs from time to time.
func errorText(err error) string { return changing.ReplaceAllString(err.Error(), "…") }

// machine names the machine.
func machine() string {
	return fmt.Sprintf("%s, %d cores, Linux %s, %s", processor(), runtime.NumCPU(), kernelRelease(), runtime.Version())
}

// chip names the TPM.
func (b *bench) chip() (string, error) {
	tpm, err := tpmkey.Open(b.tpm.name())
	if err != nil {
		return "", err
	}
	defer tpm.Close()
	status, err := tpm.Status()
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%v, %d key slots: %s, %s.\n", status, status.MaxKeys, swtpmVersion(), b.libtpmsVersion()), nil
}

// processor is what /proc/cpuinfo calls the first one.
func processor() string {
	info, _ := os.ReadFile("/proc/cpuinfo")
	for line := range strings.Lines(string(info)) {
		if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return runtime.GOARCH
}

func kernelRelease() string {
	var name unix.Utsname
	if unix.Uname(&name) != nil {
		return "unknown"
	}
	return unix.ByteSliceToString(name.Release[:])
}

// load says how much other programs do, where that spoils what is measured.
func load() string {
	text, _ := os.ReadFile("/proc/loadavg")
	var busy float64
	if fmt.Sscan(string(text), &busy); busy < 0.5 {
		return ""
	}
	return fmt.Sprintf("bench: other programs keep this machine busy (load %.1f): numbers will be poor\n", busy)
}

var versionNumber = regexp.MustCompile(`\d+(\.\d+)+`)

func swtpmVersion() string {
	out, _ := exec.Command("swtpm", "--version").Output()
	return "swtpm " + versionNumber.FindString(string(out))
}

// libtpmsVersion is in the name of the library that swtpm has mapped.
func (b *bench) libtpmsVersion() string {
	maps, _ := os.ReadFile(fmt.Sprintf("/proc/%d/maps", b.tpm.pid()))
	for line := range strings.Lines(string(maps)) {
		if name := filepath.Base(strings.TrimSpace(line)); strings.HasPrefix(name, "libtpms.so") {
			return "libtpms " + versionNumber.FindString(name)
		}
	}
	return "libtpms of unknown version"
}
