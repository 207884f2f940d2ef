package tpmkey_test

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"

	"maclef/blob"
	"maclef/internal/tpmtest"
	"maclef/tpmkey"
)

// A wrong secret that is asked for costs one try, where its session is open before it is used.
func TestUnprovedSessionCostsOneTry(t *testing.T) {
	t.Parallel()
	sw := tpmtest.Start(t, tpmtest.Keys20)
	tpm := openName(t, sw.Socket)
	k, err := tpm.Load(t.Context(), fixture20(t, "e2-rsa-auth-da"), &tpmkey.LoadOptions{Auth: tpmkey.AskSecret(func() (tpmkey.Secret, error) { return tpmkey.Password([]byte("wrong")), nil })})
	if err != nil {
		t.Fatal(err)
	}
	time.Sleep(200 * time.Millisecond)
	raw := sw.Dial()
	for range 2 {
		if _, err := (tpm2.StartAuthSession{TPMKey: tpm2.TPMRHNull, Bind: tpm2.TPMRHNull, SessionType: tpm2.TPMSEHMAC, AuthHash: tpm2.TPMAlgSHA256, NonceCaller: tpm2.TPM2BNonce{Buffer: make([]byte, 16)}, Symmetric: tpm2.TPMTSymDef{Algorithm: tpm2.TPMAlgNull}}).Execute(raw); err != nil {
			t.Fatal(err)
		}
	}
	raw.Close()
	c, _ := rsa.EncryptPKCS1v15(rand.Reader, k.Public().(*rsa.PublicKey), []byte("x"))
	_, err = k.Decrypt(nil, c, nil)
	tpmtest.WantError(t, err, tpmkey.ErrWrongKeySecret)
	wantTries(t, tpm, 1)
}

// Operations that fail while their keys are brought in end their turn like others.
func TestFailuresKeepNobodyOut(t *testing.T) {
	sw := tpmtest.Start(t, tpmtest.Keys20)
	a := openName(t, sw.Socket)
	b := openWaiting(t, sw.Socket, 3*time.Second)
	bad := fixture20(t, "e2-rsa-81000001")
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Add(1)
	go func() {
		defer wg.Done()
		for {
			select {
			case <-stop:
				return
			default:
			}
			a.Load(t.Context(), bad, &tpmkey.LoadOptions{Parent: 0x81000003}) // an error each time
		}
	}()
	time.Sleep(100 * time.Millisecond)
	begin := time.Now()
	buf := make([]byte, 8)
	_, err := b.Random(t.Context()).Read(buf)
	if err != nil {
		t.Errorf("after %v: %v", time.Since(begin), err)
	}
	close(stop)
	wg.Wait()
}

// Operations that wait together wait once.
func TestQueueWaitsOnce(t *testing.T) {
	tpmtest.Long(t, tpmtest.Waits)
	sw := tpmtest.Start(t, tpmtest.Keys20)
	b := openWaiting(t, sw.Socket, time.Second)
	raw := sw.Dial()
	defer raw.Close()
	(tpm2.GetRandom{BytesRequested: 4}).Execute(raw)
	var wg sync.WaitGroup
	begin := time.Now()
	for range 4 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			buf := make([]byte, 8)
			_, err := b.Random(t.Context()).Read(buf)
			d := time.Since(begin)
			if d > 1500*time.Millisecond {
				t.Errorf("waited %v: %v", d, err)
			}
		}()
	}
	wg.Wait()
}

// Close waits once, however many keys have something in the TPM.
func TestCloseWaitsOnce(t *testing.T) {
	tpmtest.Long(t, tpmtest.Waits)
	sw := tpmtest.Start(t, tpmtest.Keys20)
	tpm, err := tpmkey.OpenWithOptions(context.Background(), sw.Socket, &tpmkey.OpenOptions{Wait: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 4 {
		k, err := tpm.Load(t.Context(), fixture20(t, "e2-p256-auth"), &tpmkey.LoadOptions{Auth: asked()})
		if err != nil {
			t.Fatal(err)
		}
		mustSign(t, k, i)
	}
	time.Sleep(300 * time.Millisecond)
	raw := sw.Dial()
	(tpm2.GetRandom{BytesRequested: 4}).Execute(raw)
	begin := time.Now()
	err = tpm.Close()
	if d := time.Since(begin); d > 1500*time.Millisecond {
		t.Errorf("Close took %v: %v", d, err)
	}
	raw.Close()
}

// A lateTransport gives up the first use of a key by a deadline of its own.
type lateTransport struct {
	transport.TPMCloser
	mu sync.Mutex
	on int
}

func (l *lateTransport) Send(cmd []byte) ([]byte, error) {
	rsp, err := l.TPMCloser.Send(cmd)
	l.mu.Lock()
	defer l.mu.Unlock()
	cc := uint32(cmd[6])<<24 | uint32(cmd[7])<<16 | uint32(cmd[8])<<8 | uint32(cmd[9])
	if l.on > 0 && (cc == 0x15d || cc == 0x159) && err == nil && rsp[9] != 0x22 {
		l.on--
		return nil, fmt.Errorf("send: %w", context.DeadlineExceeded)
	}
	return rsp, err
}

func TestLateAnswerOfATransport(t *testing.T) {
	t.Parallel()
	sw := tpmtest.Start(t, tpmtest.Keys20)
	l := &lateTransport{TPMCloser: sw.Dial(), on: 1}
	tpm, err := tpmkey.OpenTransport(t.Context(), l)
	if err != nil {
		t.Fatal(err)
	}
	defer tpm.Close()
	k, err := tpm.Load(t.Context(), fixture20(t, "e2-rsa-auth-da"), &tpmkey.LoadOptions{Auth: tpmkey.Password([]byte("wrong"))})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 2 {
		tpmtest.WantError(t, signs(k, i), tpmkey.ErrWrongKeySecret)
	}
	wantTries(t, tpm, 1)
}

// A result code that somebody puts in place of another one proves no secret: a wrong one costs one
// try, however often it is used.
func TestForgedCodesProveNothing(t *testing.T) {
	t.Parallel()
	tpmtest.Long(t, tpmtest.Slow12)
	decrypt := func(k *tpmkey.Key) error {
		_, err := k.Decrypt(nil, randomCiphertext(k), nil)
		return err
	}
	sessionKey := func(k *tpmkey.Key) error {
		_, err := k.Decrypt(nil, randomCiphertext(k), &rsa.PKCS1v15DecryptOptions{SessionKeyLen: 48})
		return err
	}
	check := func(k *tpmkey.Key) error { return k.CheckSecret(t.Context()) }
	const rcSize, rcValue = 0x1d5, 0x1c4 // about the first parameter
	for name, c := range map[string]struct {
		state  tpmtest.State
		file   blob.Key
		forged uint32
		use    func(*tpmkey.Key) error
	}{
		"1.2, decrypt":            {tpmtest.Tutorial, parseFixture(t, "auth"), 0x21, decrypt}, // TPM_DECRYPT_ERROR
		"1.2, session key":        {tpmtest.Tutorial, parseFixture(t, "auth"), 0x21, sessionKey},
		"2.0, decrypt":            {tpmtest.Keys20, pair20(t, "tools-rsaes"), rcValue, decrypt},
		"2.0, session key":        {tpmtest.Keys20, pair20(t, "tools-rsaes"), rcValue, sessionKey},
		"2.0, check":              {tpmtest.Keys20, fixture20(t, "e2-rsa-auth-da"), rcSize, check},
		"2.0, check, signs only":  {tpmtest.Keys20, pair20(t, "tools-ak"), rcSize, check},
		"2.0, check, no scheme":   {tpmtest.Keys20, fixture20(t, "pv-rsa-auth"), rcValue, check},
		"2.0, check, decryption":  {tpmtest.Keys20, pair20(t, "tools-rsaes"), rcSize, check},
		"2.0, check, then decode": {tpmtest.Keys20, pair20(t, "tools-rsaes"), rcValue, func(k *tpmkey.Key) error { return errors.Join(check(k), decrypt(k)) }},
	} {
		t.Run(name, func(t *testing.T) {
			p := tpmtest.StartProxy(t, tpmtest.Start(t, c.state))
			tpm := openName(t, p.Name)
			p.Arm(0, tpmtest.Fault{Repeat: 1 << 20, Answer: func(cmd, rsp []byte) []byte {
				code := binary.BigEndian.Uint32(rsp[6:])
				if code == 1 && !tpmtest.Is20(rsp) || saysWrong20(code) && tpmtest.Is20(rsp) {
					return tpmtest.ErrorReplyTo(rsp, c.forged)
				}
				return rsp
			}})
			k, err := tpm.Load(t.Context(), c.file, &tpmkey.LoadOptions{ParentAuth: tutorialSRK(), Auth: tpmkey.Password([]byte("faux"))})
			if err != nil {
				t.Fatal(err)
			}
			for range 6 {
				err := c.use(k)
				tpmtest.WantError(t, err, tpmkey.ErrWrongKeySecret)
			}
			p.Disarm()
			wantTries(t, tpm, 1)
		})
	}
}

// randomCiphertext is a number that the key decrypts, to nothing of use.
func randomCiphertext(k *tpmkey.Key) []byte {
	c := randomBytes(k.Public().(*rsa.PublicKey).Size())
	c[0] = 0
	return c
}

// The time of the first session key does not show whether the ciphertext was good: the same
// commands follow, and precede the next one.
func TestFirstSessionKeyLooksLikeOthers(t *testing.T) {
	t.Parallel()
	tpmtest.Long(t, tpmtest.Slow12)
	for name, c := range map[string]struct {
		state tpmtest.State
		file  blob.Key
	}{
		"1.2":            {tpmtest.Tutorial, parseFixture(t, "auth")},
		"2.0, RSAES":     {tpmtest.Keys20, pair20(t, "tools-rsaes")},
		"2.0, no scheme": {tpmtest.Keys20, fixture20(t, "e2-rsa-auth-da")},
	} {
		t.Run(name, func(t *testing.T) { firstSessionKeyLooksLikeOthers(t, c.state, c.file) })
	}
}

func firstSessionKeyLooksLikeOthers(t *testing.T, state tpmtest.State, file blob.Key) {
	names := map[bool]string{}
	for _, good := range []bool{false, true} {
		p := tpmtest.StartProxy(t, tpmtest.Start(t, state))
		k, err := openName(t, p.Name).Load(t.Context(), file, &tpmkey.LoadOptions{ParentAuth: tutorialSRK(), Auth: motdepasse()})
		if err != nil {
			t.Fatal(err)
		}
		p.Arm(1<<20, tpmtest.Fault{})
		for range 2 {
			c := randomCiphertext(k)
			if good {
				c, _ = rsa.EncryptPKCS1v15(rand.Reader, k.Public().(*rsa.PublicKey), make([]byte, 48))
			}
			if _, err := k.Decrypt(nil, c, &rsa.PKCS1v15DecryptOptions{SessionKeyLen: 48}); err != nil {
				t.Fatal(err)
			}
			time.Sleep(200 * time.Millisecond) // the turn ends
		}
		for _, e := range p.Exchanges() {
			names[good] += e.Name() + " "
		}
	}
	if names[false] != names[true] {
		t.Errorf("bad: %s\ngood: %s", names[false], names[true])
	}
	t.Log(names[true])
}
