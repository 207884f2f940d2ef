package tpmkey_test

import (
	"crypto/rsa"
	"flag"
	"fmt"
	"math/big"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-tpm/tpm2"
	gotransport "github.com/google/go-tpm/tpm2/transport"

	"maclef/blob"
	"maclef/internal/tpmtest"
	"maclef/tpmkey"
)

var timings = flag.Int("timings", 120, "TestPaddingTiming: so many decryptions of each kind are timed")

const sessionKeyLen = 48

// A timedKey decrypts session keys; nobody may learn which ciphertexts are good.
type timedKey struct {
	name   string
	state  tpmtest.State
	file   string        // a recorded key; empty for one of scheme RSAES
	secret tpmkey.Secret // the zero value for one without
}

func timedKeys() []timedKey {
	return []timedKey{
		{"1.2 without a secret", tpmtest.Tutorial, "maclef", tpmkey.Secret{}},
		{"1.2 with a secret", tpmtest.Tutorial, "auth", motdepasse()},
		{"2.0 without a secret", tpmtest.Keys20, "pv-rsa", tpmkey.Secret{}},
		{"2.0 with a secret", tpmtest.Keys20, "pv-rsa-auth", motdepasse()},
		{"2.0 with an asked secret", tpmtest.Keys20, "pv-rsa-auth", asked()},
		{"2.0 RSAES", tpmtest.Keys20, "", tpmkey.Secret{}},
	}
}

// loaded is the key in a TPM, used once, so that each use takes the same from then on.
func (c timedKey) loaded(t *testing.T, tpm *tpmkey.TPM) *paddedKey {
	t.Helper()
	p := &paddedKey{t: t}
	if c.file == "" {
		p.Key = loadKind(t, tpm, kind20{decrypt: true, scheme: tpm2.TPMAlgRSAES})
		ciphertext := p.encrypt(randomBytes(7))
		p.next = func() error { _, err := p.Decrypt(nil, ciphertext, nil); return err }
	} else {
		p.Key = loadWith(t, tpm, c.file, tutorialSRK(), c.secret)
		p.next = func() error { return signs(p.Key) }
	}
	p.decrypt(p.good())
	p.after()
	return p
}

// A paddedKey is one whose padding is tried.
type paddedKey struct {
	*tpmkey.Key
	t    *testing.T
	next func() error // the operation after a decryption
}

func (p *paddedKey) decrypt(ciphertext []byte) {
	p.t.Helper()
	plain, err := p.Decrypt(nil, ciphertext, &rsa.PKCS1v15DecryptOptions{SessionKeyLen: sessionKeyLen})
	if err != nil || len(plain) != sessionKeyLen {
		p.t.Fatalf("%d bytes, %v", len(plain), err)
	}
}

func (p *paddedKey) after() {
	p.t.Helper()
	if err := p.next(); err != nil {
		p.t.Fatal(err)
	}
}

func (p *paddedKey) encrypt(message []byte) []byte {
	p.t.Helper()
	ciphertext, err := tpmkey.Encrypt(p.File(), message)
	if err != nil {
		p.t.Fatal(err)
	}
	return ciphertext
}

func (p *paddedKey) good() []byte { return p.encrypt(randomBytes(sessionKeyLen)) }

// badBlocks are changes that make a padding wrong.
var badBlocks = map[string]func(block []byte){
	"first byte":    func(b []byte) { b[0] = 1 },
	"block type":    func(b []byte) { b[1] = 1 },
	"no zero":       func(b []byte) { b[len(b)-sessionKeyLen-1] = 1 },
	"short padding": func(b []byte) { b[5] = 0 },
}

// bad are ciphertexts that are wrong, by what is wrong with them.
func (p *paddedKey) bad() map[string][]byte {
	all := map[string][]byte{
		"a byte too few":  p.encrypt(randomBytes(sessionKeyLen - 1)),
		"a byte too many": p.encrypt(randomBytes(sessionKeyLen + 1)),
		"empty":           p.encrypt(nil),
	}
	for name, change := range badBlocks {
		all[name] = p.badBlock(change)
	}
	if _, is12 := p.File().(*blob.TPMKey); is12 { // one of TPM 1.2, whose plaintexts are more than padded
		all["no TPM_BOUND_DATA"] = p.badBlock(func([]byte) {})
	}
	return all
}

func (p *paddedKey) badBlock(change func(block []byte)) []byte {
	public := p.Public().(*rsa.PublicKey)
	block := make([]byte, public.Size())
	for i := range block {
		block[i] = byte(1 + rand.IntN(255))
	}
	block[0], block[1], block[len(block)-sessionKeyLen-1] = 0, 2, 0
	change(block)
	m := new(big.Int).SetBytes(block)
	return m.Exp(m, big.NewInt(int64(public.E)), public.N).FillBytes(make([]byte, public.Size()))
}

// The commands of a decryption, and of the operation after it, do not tell good padding
// from bad: each in a turn of its own, and one after the other where all stays loaded.
func TestPaddingCommands(t *testing.T) {
	tpmtest.Long(t, tpmtest.Stress)
	for _, c := range timedKeys() {
		t.Run(c.name, func(t *testing.T) {
			proxy := tpmtest.StartProxy(t, tpmtest.Start(t, c.state))
			c.wantSameCommands(t, openName(t, proxy.Name), func(f func()) []tpmtest.Exchange {
				proxy.Arm(countOnly, tpmtest.Fault{})
				f()
				if err := proxy.WaitIdle(20 * time.Second); err != nil {
					t.Fatal(err)
				}
				return proxy.Exchanges()
			})
			tpm, tap := openTappedIn(t, c.state)
			c.wantSameCommands(t, tpm, func(f func()) []tpmtest.Exchange {
				tap.Reset()
				f()
				return tap.Exchanges()
			})
		})
	}
}

// wantSameCommands compares what a good ciphertext takes with what bad ones do.
func (c timedKey) wantSameCommands(t *testing.T, tpm *tpmkey.TPM, during func(f func()) []tpmtest.Exchange) {
	t.Helper()
	k := c.loaded(t, tpm)
	during(func() {}) // the turn ends
	var want [2][]sent
	for round := range 3 {
		ciphertexts := k.bad()
		for name, ciphertext := range ciphertexts {
			for _, one := range [][]byte{k.good(), ciphertext} {
				got := [2][]sent{shapes(during(func() { k.decrypt(one) })), shapes(during(k.after))}
				if want[0] == nil {
					want = got
				}
				for i, what := range []string{"decryption", "next operation"} {
					if !slices.Equal(got[i], want[i]) {
						t.Fatalf("round %d, beside %q: the %s takes %v, a good one's %v", round, name, what, got[i], want[i])
					}
				}
			}
		}
	}
}

// A sent command is what can be seen of one.
type sent struct {
	name string
	size int
}

func shapes(all []tpmtest.Exchange) (seen []sent) {
	for _, e := range all {
		seen = append(seen, sent{e.Name(), len(e.Command)})
	}
	return seen
}

// A slowTPM takes longer for each command, as chips do: so it shows in the time how many
// there are.
type slowTPM struct{ gotransport.TPMCloser }

func (s slowTPM) Send(cmd []byte) ([]byte, error) {
	rsp, err := s.TPMCloser.Send(cmd)
	time.Sleep(commandTime)
	return rsp, err
}

// commandTime is how much longer; what a command takes at least.
const commandTime = 500 * time.Microsecond

// The time of a decryption, and of the operation after it, does not tell good padding
// from bad, as far as one more command would.
func TestPaddingTiming(t *testing.T) {
	tpmtest.Long(t, tpmtest.Stress)
	for _, c := range timedKeys() {
		if strings.Contains(c.name, "asked") {
			continue // whoever answers takes longer
		}
		t.Run(c.name, func(t *testing.T) {
			tpm, err := tpmkey.OpenTransport(t.Context(), slowTPM{tpmtest.Start(t, c.state).Dial()})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { tpm.Close() })
			k := c.loaded(t, tpm)
			for attempt := 1; ; attempt++ {
				told := k.tellsApart()
				if told == "" {
					return
				}
				if attempt == 2 { // twice is no accident
					t.Error(told)
					return
				}
				t.Log("once more:", told)
			}
		})
	}
}

// tellsApart times good and bad ciphertexts by turns, at random, and says what tells them
// apart: a difference of more than half a command that is no accident.
func (p *paddedKey) tellsApart() (told string) {
	p.t.Helper()
	good, bad := p.good(), p.badBlock(badBlocks["block type"])
	kinds := make([]bool, 2**timings)
	for i := range kinds {
		kinds[i] = i%2 == 0
	}
	shuffle(kinds)
	var times [2][]time.Duration
	for _, isGood := range kinds {
		ciphertext := bad
		if isGood {
			ciphertext = good
		}
		begin := time.Now()
		p.decrypt(ciphertext)
		middle := time.Now()
		p.after()
		times[0], times[1] = append(times[0], middle.Sub(begin)), append(times[1], time.Since(middle))
	}
	for i, what := range []string{"the decryption", "the operation after it"} {
		d, chance := difference(times[i], kinds, commandTime/2)
		text := fmt.Sprintf("%s takes %v more of %v for good padding, p = %.4f", what, d, quartile(times[i]), chance)
		p.t.Log(text)
		if chance <= 0.001 {
			told = text
		}
	}
	return told
}

func shuffle(kinds []bool) {
	rand.Shuffle(len(kinds), func(i, j int) { kinds[i], kinds[j] = kinds[j], kinds[i] })
}

// difference is by how much the times of one kind exceed those of the other, and how
// probable so much is, either way, where kinds mean nothing; 1 where it is but small.
func difference(times []time.Duration, kinds []bool, small time.Duration) (d time.Duration, chance float64) {
	d = quartiles(times, kinds)
	if d.Abs() <= small {
		return d, 1
	}
	const permutations = 5000
	kinds = slices.Clone(kinds)
	as := 0
	for range permutations {
		shuffle(kinds)
		if quartiles(times, kinds).Abs() >= d.Abs() {
			as++
		}
	}
	return d, float64(as+1) / (permutations + 1)
}

// quartiles is the difference of the lower quartiles of two kinds.
func quartiles(times []time.Duration, kinds []bool) time.Duration {
	var of [2][]time.Duration
	for i, kind := range kinds {
		which := 0
		if kind {
			which = 1
		}
		of[which] = append(of[which], times[i])
	}
	return quartile(of[1]) - quartile(of[0])
}

// quartile is what a quarter of the times are below: others' work only adds to them.
func quartile(all []time.Duration) time.Duration {
	all = slices.Clone(all)
	slices.Sort(all)
	return all[len(all)/4]
}
