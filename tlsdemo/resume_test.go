package main

import (
	"crypto/tls"
	"maclef/internal/tpmtest"
	"net/http"
	"testing"
)

// Clients that come back cost the TPM nothing: not one command, and not its
// presence.
func TestResumptionNeedsNoTPM(t *testing.T) {
	tpmtest.Long(t, tpmtest.Waits)
	t.Parallel()
	both(t, "maclef", nil, testResumptionNeedsNoTPM)
}

func testResumptionNeedsNoTPM(t *testing.T, rig *rig) {
	t.Parallel()
	real := rig.swtpm.Socket
	counter := newSlowTPM(t, rig.swtpm)
	rig.swtpm.Socket = counter.name
	r := rig.serve(nil)
	client := r.client()
	transport := client.Transport.(*http.Transport)
	transport.TLSClientConfig.ClientSessionCache = tls.NewLRUClientSessionCache(1)
	r.status(client)
	rig.swtpm.Socket = real
	r.wantNothingInTPM() // that turn comes when the one of the signature is over
	before := counter.commands.Load()
	comeBack := func(resumed int) {
		t.Helper()
		transport.CloseIdleConnections()
		rep := r.status(client)
		if !rep.Connection.Resumed || rep.Handshakes != (handshakes{Complete: 1 + resumed, Signed: 1, Resumed: resumed}) {
			t.Errorf("%+v %+v", rep.Connection, rep.Handshakes)
		}
	}
	comeBack(1)
	comeBack(2)
	rig.swtpm.Kill()
	comeBack(3)
	rig.swtpm.Restart()
	comeBack(4)
	if n := counter.commands.Load() - before; n != 0 {
		t.Errorf("%d TPM commands", n)
	}
}
