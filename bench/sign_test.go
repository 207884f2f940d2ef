//go:build linux

package bench

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/google/go-tpm/tpm2"

	"maclef/internal/tpmtest"
	"maclef/tpmkey"
)

// BenchmarkUse measures signing, decryption and key agreement in one process.
func BenchmarkUse(b *testing.B) {
	eachTPM(b, func(b *testing.B, c *testTPM) {
		names := []string{"sign-pkcs1", "decrypt-rsa"}
		if c.Is20() {
			names = []string{"sign-pkcs1", "sign-pss", "sign-p256", "sign-p384", "decrypt-rsa", "agree-p256"}
		}
		for _, name := range names {
			op := c.operation(b, name)
			asked := op.secret
			asked.Asked = true
			for _, u := range []struct {
				file       keyFile
				goroutines []int
			}{{op.plain, []int{1, 8, 64}}, {op.secret, []int{1, 8}}, {asked, []int{1}}} {
				for _, n := range u.goroutines {
					b.Run(fmt.Sprintf("op=%s/%s/goroutines=%d", name, u.file, n), func(b *testing.B) {
						p := alternate(repeats,
							func() sample { return c.bare(b, op, sampleTime) },
							func() sample { return c.library(b, op, []keyFile{u.file}, n, sampleTime) })
						atLeast(b, "%bare", compare(b, p[0], p[1]), 97)
						if n == 1 {
							p[1].reportMemory(b)
							reportCommands(b, c.commands(b, op, []keyFile{u.file}), countedOps, 0, 1)
						}
					})
				}
			}
		}
	})
}

// BenchmarkManyKeys measures random use of more and more keys in one process. All keys come
// from one file; the TPM treats them as different keys.
func BenchmarkManyKeys(b *testing.B) {
	eachTPM(b, func(b *testing.B, c *testTPM) {
		run := func(name string, n int) {
			b.Run(fmt.Sprintf("op=%s/keys=%d", name, n), func(b *testing.B) {
				op := c.operation(b, name)
				files := slices.Repeat([]keyFile{op.plain}, n)
				p := alternate(1,
					func() sample { return c.bare(b, op, longSampleTime) },
					func() sample { return c.library(b, op, files, 1, longSampleTime) })
				compare(b, p[0], p[1])
				b.ReportMetric(float64(p[1].loading.Microseconds())/1000/float64(n), "load-ms/key")
				commands := c.commands(b, op, files)
				b.ReportMetric(float64(len(commands))/float64(countedOps), "cmds/op")
				switches := count(commands, loads) // uses of a key that was not loaded
				b.ReportMetric(100*float64(switches)/float64(countedOps), "%switches")
				if switches > 0 {
					atMost(b, "cmds/switch", float64(len(commands)-countedOps)/float64(switches), 3)
				}
			})
		}
		sizes := []int{1, 10, 20, 50, 200, 1000}
		if c.Is20() {
			sizes = []int{1, 3, 4, 10, 100, 1000}
			run("sign-p256", maxKeys)
		}
		for _, n := range sizes {
			if n <= maxKeys {
				run("sign-pkcs1", n)
			}
		}
	})
}

// library measures the library doing an operation with random keys.
func (c *testTPM) library(b *testing.B, op *operation, files []keyFile, goroutines int, sampleTime time.Duration) (p sample) {
	start := time.Now()
	check(b, useKeys(c.name(), files, func(keys []*tpmkey.Key) error {
		loading := time.Since(start)
		use := func() error { return op.use(keys[rand.IntN(len(keys))]) }
		err := use() // warms up
		if err == nil {
			p, err = repeat(goroutines, sampleTime, use)
		}
		p.loading = loading
		return err
	}))
	return p
}

// commands returns the TPM commands of operations with random keys. The keys have been used
// before. If there are many, they are not loaded at the start.
func (c *testTPM) commands(b *testing.B, op *operation, files []keyFile) (commands []string) {
	front, taken := c.withCounter(b)
	check(b, useKeys(front.name(), files, func(keys []*tpmkey.Key) error {
		use := func() error { return op.use(keys[rand.IntN(len(keys))]) }
		if len(files) > 1 {
			time.Sleep(2 * turnIdleTime)
		} else if err := use(); err != nil {
			return err
		}
		taken()
		for range countedOps {
			if err := use(); err != nil {
				return err
			}
		}
		commands = taken()
		return nil
	}))
	return commands
}

// BenchmarkProcesses measures signing in several processes on one TPM.
func BenchmarkProcesses(b *testing.B) {
	eachTPM(b, func(b *testing.B, c *testTPM) {
		op := c.operation(b, "sign-pkcs1")
		run := func(file keyFile, processes int) {
			b.Run(fmt.Sprintf("op=%s/%s/processes=%d", op.name, file, processes), func(b *testing.B) {
				c.signTogether(b, op, file, processes, parallelTime, 90)
			})
		}
		run(op.plain, 2)
		run(op.plain, 4)
		run(op.secret, 4)
	})
}

// signTogether measures signing in several processes, in one process, and the bare
// commands. The processes together should reach least per cent of the rate of one.
func (c *testTPM) signTogether(b *testing.B, op *operation, file keyFile, processes int, parallelTime time.Duration, least float64) {
	var low, high float64
	p := alternate(1,
		func() sample { return c.bare(b, op, parallelTime/2) },
		func() sample { sum, _, _ := c.signProcesses(b, op, file, 1, parallelTime/2); return sum },
		func() (sum sample) {
			sum, low, high = c.signProcesses(b, op, file, processes, parallelTime)
			return sum
		})
	compare(b, p[0], p[2])
	atLeast(b, "%one", percent(p[2], p[1]), least)
	atLeast(b, "%least", low, 50)
	atMost(b, "%most", high, 200)
}

// signProcesses returns what all processes do together, and the per cent of its fair share
// that the slowest and the fastest process gets.
func (c *testTPM) signProcesses(b *testing.B, op *operation, file keyFile, n int, sampleTime time.Duration) (sum sample, low, high float64) {
	results, err := runChildren(func() {}, c.signTasks(op, file, n, sampleTime)...)
	check(b, err)
	var each []float64
	for _, r := range results {
		sum.done += r.Done
		sum.took = max(sum.took, r.Took)
		each = append(each, float64(r.Done))
	}
	fair := float64(sum.done) / float64(n) / 100
	return sum, slices.Min(each) / fair, slices.Max(each) / fair
}

func (c *testTPM) signTasks(op *operation, file keyFile, n int, sampleTime time.Duration) []*task {
	tasks := make([]*task, n)
	for i := range tasks {
		tasks[i] = &task{Role: "sign", TPM: c.name(), Keys: []keyFile{file}, For: sampleTime, Operations: []string{op.name}}
	}
	return tasks
}

// sign is one of these processes, which uses its keys at random. To open a TPM while it is
// restarted is not to be expected to work.
func (t *task) sign(begin func(), r *result) (err error) {
	for deadline := time.Now().Add(5 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		err = useKeys(t.TPM, t.Keys, func(keys []*tpmkey.Key) error { return t.signWith(keys, begin, r) })
		if !errors.Is(err, tpmkey.ErrNoTPM) || time.Now().After(deadline) {
			return err
		}
	}
}

func (t *task) signWith(keys []*tpmkey.Key, begin func(), r *result) error {
	ops := make([]*operation, len(keys))
	for i, k := range keys {
		var err error
		if ops[i], err = newOperation(t.Operations[i], k.Public()); err != nil {
			return err
		}
		if err := ops[i].use(k); err != nil {
			return err
		}
	}
	begin()
	p, err := repeat(1, t.For, func() error {
		i := rand.IntN(len(keys))
		if t.Pause > 0 {
			time.Sleep(turnIdleTime + rand.N(t.Pause))
			defer func(start time.Time) { r.Each = append(r.Each, time.Since(start).Seconds()) }(time.Now())
		}
		return ops[i].use(keys[i])
	})
	r.Done, r.Took = p.done, p.took
	return err
}

// turnIdleTime is how long the library keeps an idle turn open for the next operation.
const turnIdleTime = 100 * time.Millisecond

// BenchmarkSlowChip measures signing in four processes on a slow chip. A sample is long,
// because a turn takes most of a second.
func BenchmarkSlowChip(b *testing.B) {
	c := newTestTPM(b, tpmtest.TPM20)
	op := c.operation(b, "sign-p256")
	run := func(file keyFile, least float64) {
		b.Run("tpm=2.0/op=sign-p256/"+file.String()+"/processes=4", func(b *testing.B) {
			slow := c.withProxy(b, func(cmd []byte) {
				time.Sleep(time.Duration(slowFactor * float64(slowCost(cmd)) * float64(time.Millisecond)))
			})
			slow.signTogether(b, op, file, 4, 2*parallelTime, least)
			slow.signNowAndThen(b, op, file)
		})
	}
	run(op.plain, 75)
	run(op.secret, 55)
}

// signNowAndThen lets one process sign now and then, and three processes all the time. It
// reports how long the first one waits until the TPM signs.
func (c *testTPM) signNowAndThen(b *testing.B, op *operation, file keyFile) {
	tasks := c.signTasks(op, file, 4, 6*parallelTime)
	tasks[3].Pause = time.Duration(slowFactor * float64(time.Second))
	results, err := runChildren(func() {}, tasks...)
	check(b, err)
	each, sign := results[3].Each, slowFactor*float64(slowCosts["Sign"])/1000
	b.ReportMetric(median(each)-sign, "wait-s")
	atMost(b, "longest-wait-s", slices.Max(each)-sign, 2.5)
}

// slowCosts are the times that a slow TPM 2.0 takes for commands, in milliseconds, with an
// unsalted session. Other commands take otherCost. The numbers are rounded from public
// reports about discrete chips.
var slowCosts = map[string]int{
	"CreatePrimary": 600, "Create": 900, "Import": 500, "Load": 400, "ContextLoad": 90, "ContextSave": 70, "FlushContext": 15,
	"Sign": 300, "RSA_Decrypt": 350, "ECDH_ZGen": 200, "Unseal": 200, "StartAuthSession": 30, "PolicyPCR": 40,
	"LoadExternal": 60, "VerifySignature": 60, "ReadPublic": 30, "GetCapability": 12,
}

const (
	otherCost      = 15
	saltCost       = 250  // to decrypt the salt of a session, in addition
	rsaPrimaryCost = 5000 // to make an RSA primary
	rsaKeyCost     = 8000
)

// slowCost returns how many milliseconds the slow chip takes for a command.
func slowCost(cmd []byte) int {
	name := commandName(cmd)
	ms, ok := slowCosts[name]
	switch {
	case !ok:
		return otherCost
	case name == "StartAuthSession" && binary.BigEndian.Uint32(cmd[10:]) != uint32(tpm2.TPMRHNull):
		return ms + saltCost
	case name == "CreatePrimary" && makesRSA(cmd):
		return rsaPrimaryCost
	case name == "Create" && makesRSA(cmd):
		return rsaKeyCost
	}
	return ms
}

// makesRSA looks for the beginning of an RSA key's public area: its type, and SHA-256 as
// its name algorithm.
func makesRSA(cmd []byte) bool { return bytes.Contains(cmd[10:], []byte{0, 1, 0, 0x0b}) }
