package tpmkey_test

import (
	"encoding/binary"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-tpm/tpm2"

	"maclef/internal/tpm12"
	"maclef/internal/tpm20"
	"maclef/internal/tpmtest"
)

// A faultTPM is a TPM that keys are tried with.
type faultTPM struct {
	name  string
	is20  bool
	state tpmtest.State
	disk  bool // contexts are kept on disk from one run to the next
	ready func(t *testing.T, sw *tpmtest.SWTPM)
}

var (
	faultTutorial = &faultTPM{name: "1.2", state: tpmtest.Tutorial}
	faultKeys20   = &faultTPM{name: "2.0", is20: true, state: tpmtest.Keys20, ready: manyTries}
	faultDisk12   = &faultTPM{name: "1.2 with a disk", state: tpmtest.WellKnown, disk: true}
	faultDisk20   = &faultTPM{name: "2.0 with a disk", is20: true, state: tpmtest.Keys20, ready: manyTries, disk: true}
	faultOwned20  = &faultTPM{name: "2.0 with an owner's secret", is20: true, state: tpmtest.Keys20, ready: func(t *testing.T, sw *tpmtest.SWTPM) {
		manyTries(t, sw)
		tpm := sw.Dial()
		defer tpm.Close()
		_, err := tpm2.HierarchyChangeAuth{
			AuthHandle: tpm2.AuthHandle{Handle: tpm2.TPMRHOwner, Auth: tpm2.PasswordAuth(nil)},
			NewAuth:    tpm2.TPM2BAuth{Buffer: []byte("proprio")},
		}.Execute(tpm)
		if err != nil {
			t.Fatal(err)
		}
	}}
)

// manyTries keeps a TPM out of lockout: each restart without a warning costs a try.
func manyTries(t *testing.T, sw *tpmtest.SWTPM) {
	sw.Send(tpmtest.LockoutParameters(1000, 1000, 1000))
}

func (f *faultTPM) start(t *testing.T) *tpmtest.Proxy {
	t.Helper()
	sw := tpmtest.Start(t, f.state)
	if f.ready != nil {
		f.ready(t, sw)
	}
	p := tpmtest.StartProxy(t, sw)
	if f.disk {
		withDisk.Store(p.Name, true)
	}
	return p
}

// withDisk are the names of TPMs whose contexts are kept on disk.
var withDisk sync.Map

func hasDisk(tpm string) bool {
	_, ok := withDisk.Load(tpm)
	return ok
}

// A worker has a TPM of its own. It runs the steps of a key once without a fault
// before it is given faults, as a TPM may want other commands in the beginning.
type worker struct {
	proxy *tpmtest.Proxy
	warm  map[*faultKey]bool
}

func newWorker(p *tpmtest.Proxy) *worker { return &worker{p, map[*faultKey]bool{}} }

// run runs a case. On a busy machine a turn may end earlier than in the plan: then the
// fault hits another command, and the case is run again.
func (w *worker) run(c *faultCase) (f *finding) {
	for range faultRuns {
		if (c.key.tpm.is20 || c.key.tpm.disk) && !w.warm[c.key] {
			planOnce(w.proxy, c.key)
			w.warm[c.key] = true
		}
		f = c.run(w.proxy)
		if yes, _ := c.restarts(); yes || !f.past {
			clear(w.warm)
		}
		if f.asPlanned() {
			break
		}
		delete(w.warm, c.key)
	}
	return f
}

// faultRuns is how often a case is run whose commands are not those of the plan.
const faultRuns = 10

// asPlanned reports whether the commands up to the fault are those of the plan.
func (f *finding) asPlanned() bool {
	for i := range min(f.c.index+1, len(f.exchanges), len(f.c.plan)) {
		if f.exchanges[i].Ordinal != f.c.plan[i].ordinal {
			return false
		}
	}
	return true
}

// planOnce runs the steps without a fault.
func planOnce(p *tpmtest.Proxy, k *faultKey) *finding {
	return (&faultCase{key: k, index: 1 << 30}).run(p)
}

// restarts reports whether the TPM is restarted in a case, and whether without
// a warning, which counts as a wrong secret where one was used that counts.
func (c *faultCase) restarts() (yes, unwarned bool) {
	yes = strings.HasPrefix(c.fault.Name, "restarted") || c.class == classCode && (c.code == rcInitialize || c.code == 0x26)
	return yes, yes && c.fault.Name != "restarted in order"
}

const rcInitialize = 0x100

// secretIn says which secret a command proves: the parent's or the key's.
func (k *faultKey) secretIn(e tpmtest.Exchange) (parents, any bool) {
	if len(e.Command) < 14 {
		return false, false
	}
	if !k.tpm.is20 {
		tag := binary.BigEndian.Uint16(e.Command)
		switch e.Ordinal {
		case ordSeal: // it proves the storage key's, which is common
			return false, false
		case ordUnseal: // the data's may be common, too
			return false, !k.key.IsZero()
		}
		return e.Ordinal == ordLoadKey2 || e.Ordinal == ordCreate, tag == 0xc2
	}
	switch tpm2.TPMCC(e.Ordinal) {
	case tpm2.TPMCCCreatePrimary, tpm2.TPMCCLoad, tpm2.TPMCCImport, tpm2.TPMCCCreate:
		return true, k.withSRK && len(e.Sessions()) > 0
	case tpm2.TPMCCSequenceUpdate, tpm2.TPMCCSequenceComplete: // a sequence has the empty secret
		return false, false
	}
	return false, k.withKey && len(e.Sessions()) > 0
}

// authResult returns what an answer says about the secret in its command.
func (k *faultKey) authResult(e tpmtest.Exchange) (right, wrong bool) {
	code, answered := e.Code()
	if !answered {
		return false, false
	}
	tag := binary.BigEndian.Uint16(e.Response)
	if !k.tpm.is20 {
		return tag >= 0xc5 && code == 0, tag == 0xc4 && (code == 1 || code == 0x1d)
	}
	return tag == 0x8002 && code == 0, tag == 0x8001 && saysWrong20(code)
}

// saysWrong20 reports whether a code is TPM_RC_AUTH_FAIL or TPM_RC_BAD_AUTH, about
// whichever session.
func saysWrong20(code uint32) bool {
	return code < 0x1000 && code&0x80 != 0 && (code&0x3f == 0x0e || code&0x3f == 0x22)
}

// left is what is loaded in a TPM, and how many wrong secrets it counts.
type left struct {
	keys, sessions []uint32
	tries          int
}

// inside looks into a TPM.
func (f *faultTPM) inside(p *tpmtest.Proxy) (l left, err error) {
	if f.is20 {
		return inside20(p)
	}
	conn := tpm12.New(p)
	info, err := conn.DictionaryAttack()
	if err != nil {
		return l, err
	}
	l.tries = int(info.Count)
	keys, err := conn.LoadedKeys()
	if err != nil {
		return l, err
	}
	for _, h := range keys {
		l.keys = append(l.keys, uint32(h))
	}
	l.sessions, err = conn.Sessions()
	return l, err
}

func inside20(p *tpmtest.Proxy) (l left, err error) {
	now, err := tpm20.New(p).Properties(tpm2.TPMPTPermanent)
	if err != nil {
		return l, err
	}
	l.tries = int(now[tpm2.TPMPTLockoutCounter])
	if l.keys, err = tpmtest.Handles20(p, 0x80000000); err != nil {
		return l, err
	}
	for _, kind := range []uint32{0x02000000, 0x03000000} {
		all, err := tpmtest.Handles20(p, kind)
		if err != nil {
			return l, err
		}
		l.sessions = append(l.sessions, all...)
	}
	return l, nil
}

// forgive has a TPM forget the wrong secrets that it has counted; the secret for that
// is well-known.
func (f *faultTPM) forgive(p *tpmtest.Proxy) error {
	if !f.is20 {
		return tpm12.New(p).ResetLockValue(new(tpm12.Secret))
	}
	return tpm20.New(p).ResetLockout(nil)
}
