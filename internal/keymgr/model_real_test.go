package keymgr

import (
	"crypto"
	"crypto/sha1"
	"fmt"
	"math/rand/v2"
	"testing"

	"maclef/blob"
	"maclef/internal/chip"
	"maclef/internal/tpmtest"
)

// TestModelIsTrue does the same to the model and to a software TPM, at random: errors are
// of the same class, as much is loaded and saved, and as many wrong secrets are counted.
func TestModelIsTrue(t *testing.T) {
	for gen, of := range []struct {
		state                        tpmtest.State
		file                         string
		places, sessions, saved, gap int
	}{
		{tpmtest.Tutorial, "tpm12-tutorial/auth", 20, 16, 112, 1 << 30},
		{tpmtest.Keys20, "tpm2/pv-rsa-auth.pem", 3, 3, 61, 1 << 30},
	} {
		t.Run(fmt.Sprint(gen), func(t *testing.T) {
			if gen == 0 {
				tpmtest.Long(t, tpmtest.Slow12)
			}
			file, err := blob.Parse(tpmtest.Fixture(t, of.file))
			if err != nil {
				t.Fatal(err)
			}
			for seed := range uint64(3) {
				random := rand.New(rand.NewPCG(seed, 12))
				m := newModel(random, chip.Generation(gen))
				m.keyPlaces, m.sessionPlaces, m.savedPlaces, m.gap = of.places, of.sessions, of.saved, of.gap
				w := newTwins(t, m, of.state, file)
				for i := 0; i < 150 && !t.Failed(); i++ {
					w.act(fmt.Sprintf("seed %d, step %d", seed, i))
				}
				w.tpm.Close()
			}
		})
	}
}

// twins are a TPM and the model of it.
type twins struct {
	t     *testing.T
	model *model
	d     *modelDevice
	sw    *tpmtest.SWTPM
	tpm   *Manager
	real  *half
	like  *half
	wrong int
}

// A half is what is done to one of the two.
type half struct {
	chip   chip.Chip
	file   blob.Key
	secret chip.AuthData
	sign   func(in chip.LoadedKey, secret chip.AuthData) ([]byte, error)
	keys   []*halfKey
	count  int // of wrong secrets, at first
}

type halfKey struct {
	slotState
	asked bool // since it was loaded it had a session of its own, so that its secret is not kept
}

func newTwins(t *testing.T, m *model, state tpmtest.State, file blob.Key) *twins {
	w := &twins{t: t, model: m, d: &modelDevice{model: m}, sw: tpmtest.Start(t, state)}
	if m.gen == chip.TPM20 {
		w.sw.Send(tpmtest.LockoutParameters(1000, 1000, 1000))
	}
	w.tpm = openSocket(t, w.sw.Socket)
	can, err := w.tpm.chip.Use(file)
	if err != nil {
		t.Fatal(err)
	}
	digest := sha1.Sum(nil)
	sign, err := can.Sign(digest[:], crypto.SHA1)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := Password([]byte("motdepasse")).ResolveFor(m.gen, "key")
	if err != nil {
		t.Fatal(err)
	}
	w.real = &half{chip: w.tpm.chip, file: file, secret: secret, sign: sign.Run}
	w.like = &half{chip: &modelChip{d: w.d, own: map[uint32]bool{}}, file: modelFile(1, secret, true), secret: secret,
		sign: func(in chip.LoadedKey, secret chip.AuthData) ([]byte, error) {
			return in.(*modelLoaded).sign(digest[:], secret)
		}}
	for range 5 {
		w.real.keys, w.like.keys = append(w.real.keys, new(halfKey)), append(w.like.keys, new(halfKey))
	}
	w.connect()
	w.real.count, w.like.count = w.tries(w.real), w.tries(w.like)
	return w
}

func (w *twins) connect() {
	if err := w.tpm.openTurn(&Work{Ctx: noLimit}); err != nil {
		w.t.Fatal(err)
	}
	w.d.connected, w.model.holder = true, w.d
}

func (w *twins) tries(h *half) int {
	w.t.Helper()
	now, err := h.chip.ReadTries(h.file, false, true)
	if err != nil {
		w.t.Fatal(err)
	}
	return now.Count
}

// An action is something that can be done to a key in some states of it.
type action struct {
	name string
	can  func(k *halfKey) bool
	do   func(h *half, k *halfKey) error
}

func isIn(k *halfKey) bool  { return k.in != nil }
func isOut(k *halfKey) bool { return k.in == nil }
func owns(k *halfKey) bool  { return k.in != nil && k.sessionIs(chip.SessionLoaded) }
func always(*halfKey) bool  { return true }

var actions = []action{
	{"load", isOut, func(h *half, k *halfKey) error {
		in, err := h.chip.Load(h.file, srkSecret(h.chip))
		if err == nil {
			k.in, k.asked = in, false
		}
		return err
	}},
	{"save", isIn, func(_ *half, k *halfKey) (err error) {
		saved, err := k.in.Save()
		if err == nil {
			k.context = saved.Data
		}
		return err
	}},
	{"flush", func(k *halfKey) bool { return isIn(k) && !owns(k) }, func(h *half, k *halfKey) error {
		was := k.in
		k.in, k.was = nil, was
		return h.chip.Flush(chip.Keys, was.Handle())
	}},
	{"restore", func(k *halfKey) bool { return isOut(k) && k.context != nil }, func(h *half, k *halfKey) error {
		in, err := h.chip.Restore(h.file, k.was, k.context)
		if err == nil {
			k.in, k.asked = in, false
		}
		return err
	}},
	{"sign", func(k *halfKey) bool { return isIn(k) && !k.asked }, func(h *half, k *halfKey) error {
		if err := h.chip.Prepare(h.file, true); err != nil {
			return err
		}
		_, err := h.sign(k.in, h.secret)
		return err
	}},
	{"authorize", func(k *halfKey) bool { return isIn(k) && k.session == nil }, func(h *half, k *halfKey) error {
		s, err := k.in.Authorize(h.secret)
		if err == nil {
			k.session, k.asked = s, true
		}
		return err
	}},
	{"sign by its own session", owns, func(h *half, k *halfKey) error {
		_, err := h.sign(k.in, nil)
		return err
	}},
	{"save its session", owns, func(_ *half, k *halfKey) error { return k.session.Save() }},
	{"resume", func(k *halfKey) bool { return isIn(k) && k.sessionIs(chip.SessionSaved) }, func(_ *half, k *halfKey) error {
		k.asked = true
		err := k.in.Resume(k.session)
		if k.sessionIs(chip.SessionGone) {
			k.session = nil
		}
		return err
	}},
	{"close its session", owns, func(_ *half, k *halfKey) error {
		k.session.Close()
		k.session = nil
		return nil
	}},
	{"flush a saved session", func(k *halfKey) bool { return k.sessionIs(chip.SessionSaved) }, func(h *half, k *halfKey) error {
		_, number := k.session.State()
		return h.chip.Flush(chip.SavedSessions, number)
	}},
	{"end the others", always, func(h *half, _ *halfKey) error {
		h.chip.EndSessions(chip.EndAll)
		return nil
	}},
}

func srkSecret(c chip.Chip) chip.AuthData {
	auth, _ := Password(nil).ResolveFor(c.Generation(), "SRK")
	return auth
}

func (w *twins) act(when string) {
	switch i := w.model.random.IntN(60); {
	case i == 0:
		w.restart()
	case i == 1 && w.wrong < 2:
		w.guess(when)
	default:
		n := w.model.random.IntN(len(w.real.keys))
		a := actions[w.model.random.IntN(len(actions))]
		if !a.can(w.real.keys[n]) {
			return
		}
		when = fmt.Sprintf("%s: %s, key %d", when, a.name, n)
		if !a.can(w.like.keys[n]) {
			w.t.Fatalf("%s: the model is in another state", when)
		}
		real, like := a.do(w.real, w.real.keys[n]), a.do(w.like, w.like.keys[n])
		if is, want := w.like.chip.ClassOf(like), w.real.chip.ClassOf(real); is != want {
			w.t.Errorf("%s: the model says %v (class %d), the TPM %v (class %d)", when, like, is, real, want)
		}
	}
	w.compare(when)
}

// compare compares what is there.
func (w *twins) compare(when string) {
	w.t.Helper()
	var seen [2]string
	for i, h := range []*half{w.real, w.like} {
		var there [3]int
		for _, kind := range []chip.Kind{chip.Keys, chip.Sessions, chip.SavedSessions} {
			handles, err := h.chip.Loaded(kind)
			if err != nil {
				w.t.Fatal(err)
			}
			there[kind] = len(handles)
		}
		seen[i] = fmt.Sprintf("%d keys, %d sessions, %d saved, %d wrong secrets", there[0], there[1], there[2], w.tries(h)-h.count)
	}
	if seen[0] != seen[1] {
		w.t.Errorf("%s: the TPM has %s, the model %s", when, seen[0], seen[1])
	}
}

// guess signs with a wrong secret.
func (w *twins) guess(when string) {
	for n, k := range w.real.keys {
		if k.in == nil || k.asked {
			continue
		}
		w.wrong++
		bad, _ := Password([]byte("wrong")).ResolveFor(w.model.gen, "key")
		var class [2]chip.ErrClass
		for i, h := range []*half{w.real, w.like} {
			err := h.chip.Prepare(h.file, true)
			if err == nil {
				_, err = h.sign(h.keys[n].in, bad)
			}
			class[i] = h.chip.ClassOf(err)
		}
		if class[0] != class[1] {
			w.t.Errorf("%s: a wrong secret: the TPM says %d, the model %d", when, class[0], class[1])
		}
		return
	}
}

// restart restarts both, of which a TPM 2.0 knows before.
func (w *twins) restart() {
	w.tpm.turn.release()
	w.tpm.turn = nil
	if w.model.gen == chip.TPM20 {
		w.sw.Shutdown()
	}
	w.sw.Restart()
	w.model.reset(true)
	for _, h := range []*half{w.real, w.like} {
		h.chip.EndSessions(chip.Forget)
		for _, k := range h.keys {
			if k.in != nil {
				k.in, k.was = nil, k.in
			}
			if k.sessionIs(chip.SessionLoaded) {
				k.session = nil
			}
		}
	}
	w.connect()
	if w.model.gen == chip.TPM12 { // a software TPM 1.2 forgets them
		w.real.count, w.like.count = w.tries(w.real), w.tries(w.like)
	}
}
