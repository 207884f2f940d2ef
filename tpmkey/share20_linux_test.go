package tpmkey_test

import (
	"testing"

	"maclef/internal/tpmtest"
	"maclef/tpmkey"
)

// Four processes share the three places of a TPM 2.0.
func TestProcessesShareFairly20(t *testing.T) {
	const n = 4
	sw := tpmtest.Start(t, tpmtest.Keys20)
	users := startUsers(t, n, sw.Socket, tpmtest.FixturePath(t, "tpm2/e2-p256-auth.pem"), 2)
	for _, p := range users {
		p.tell("sign-for 2s")
	}
	all := 0
	var counts []int
	for _, p := range users {
		counts = append(counts, p.done())
		all += counts[len(counts)-1]
	}
	t.Log("signatures:", counts)
	for _, got := range counts {
		if got*n*4 < all {
			t.Errorf("one got %d of %d", got, all)
		}
	}
	for _, p := range users {
		p.ask("close")
	}
	wantEmpty(t, sw)
}

// More processes than there are places for keys, or for sessions.
func TestManyProcesses20(t *testing.T) {
	for _, name := range []string{"e2-rsa-auth-da", "pv-rsa-auth"} {
		sw := tpmtest.Start(t, tpmtest.Keys20)
		users := startUsers(t, 8, sw.Socket, tpmtest.FixturePath(t, "tpm2/"+name+".pem"), 1)
		for range 2 {
			for _, p := range users {
				p.tell("sign 3")
			}
			for i, p := range users {
				if _, err := p.result(); err != nil {
					t.Errorf("%s: process %d: %v", name, i, err)
				}
			}
		}
		for _, p := range users {
			p.ask("close")
		}
		wantEmpty(t, sw)
	}
}

// A process that has more keys whose secrets it may not keep than there are sessions
// asks for some of them again, and goes on.
func TestMoreAskedKeysThanSessions20(t *testing.T) {
	tpm := openState(t, tpmtest.Keys20)
	var keys []*tpmkey.Key
	for range 6 {
		k, err := tpm.Load(t.Context(), fixture20(t, "e2-p256-auth"), &tpmkey.LoadOptions{Auth: asked()})
		if err != nil {
			t.Fatal(err)
		}
		keys = append(keys, k)
	}
	for i := range 3 * len(keys) {
		if err := signs(keys[i%len(keys)], i); err != nil {
			t.Fatal(i, err)
		}
	}
	agrees20(t, keys[0])
}

// A process that is killed in the middle of its work stops nobody.
func TestKilledInMidOperation20(t *testing.T) {
	sw := tpmtest.Start(t, tpmtest.Keys20)
	tpm := openName(t, sw.Socket)
	k, err := tpm.Load(t.Context(), fixture20(t, "e2-p256-auth"), &tpmkey.LoadOptions{Auth: motdepasse()})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 3 { // each leaves a key and a session, for which there are three places
		p := startUsers(t, 1, sw.Socket, tpmtest.FixturePath(t, "tpm2/e2-p256-auth.pem"), 1)[0]
		p.tell("sign-for 1m")
		mustSign(t, k, i)
		p.kill()
		mustSign(t, k, i)
	}
}

// Programs that are killed while they have keys and primaries loaded block nobody who
// has the same key: what they left is freed when the places are needed.
func TestKilledDoNotBlock20(t *testing.T) {
	sw := tpmtest.Start(t, tpmtest.Keys20)
	file := tpmtest.FixturePath(t, "tpm2/e2-p256-auth.pem")
	for range 4 {
		p := startUsers(t, 1, sw.Socket, file, 1)[0]
		p.ask("sign 1")
		p.kill()
	}
	p := startUsers(t, 1, sw.Socket, file, 1)[0]
	p.ask("sign 1")
	p.ask("close")
}
