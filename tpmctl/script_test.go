package main

import (
	"bytes"
	"context"
	"crypto"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"maclef/blob"
	"maclef/internal/cli"
	"maclef/internal/tpm12"
	"maclef/internal/tpmtest"
	"maclef/internal/transport"
	"maclef/tpmkey"
)

// TestMain makes the test binary the command tpmctl, too, and one that panics when
// it reads a secret from standard input.
func TestMain(m *testing.M) {
	testscript.Main(tpmtest.Tests{TestingM: m}, map[string]func(){"tpmctl": main, "tpmctl-panics": func() {
		os.Exit(cli.Main("tpmctl-panics", func(args []string, _ io.Reader, stdout, stderr io.Writer) error {
			return run(args, panicking{}, stdout, stderr)
		}))
	}, "tpmctl-asks": func() { os.Exit(cli.Main("tpmctl-asks", asks)) }})
}

// asks is a program that may not keep the secret of its key: it signs, waits for a line
// of a pipe, signs again, and says how often it has asked.
func asks(args []string, _ io.Reader, stdout, _ io.Writer) error {
	tpm, err := tpmkey.Open(context.Background(), "")
	if err != nil {
		return err
	}
	defer tpm.Close()
	asked := 0
	key, err := tpm.LoadFile(context.Background(), args[0], &tpmkey.LoadOptions{
		ParentAuth: tpmkey.Password(nil),
		Auth: tpmkey.AskSecret(func() (tpmkey.Secret, error) {
			asked++
			return tpmkey.Password([]byte("motdepasse")), nil
		}),
	})
	if err != nil {
		return err
	}
	if _, err := key.Sign(nil, make([]byte, sha256.Size), crypto.SHA256); err != nil {
		return err
	}
	gate, err := os.Open(args[1])
	if err != nil {
		return err
	}
	defer gate.Close()
	if _, err := gate.Read(make([]byte, 64)); err != nil {
		return err
	}
	if _, err := key.Sign(nil, make([]byte, sha256.Size), crypto.SHA256); err != nil {
		return err
	}
	_, err = fmt.Fprintln(stdout, "asked", asked)
	return err
}

// panicking is an input that finds a mistake in whoever reads it.
type panicking struct{}

func (panicking) Read([]byte) (int, error) { panic("standard input") }

func TestScript(t *testing.T) {
	tpmtest.RunScripts(t, []string{"keygen"}, map[string]tpmtest.ScriptCommand{"machine": cmdMachine, "fill": cmdFill, "fill20": cmdFill20, "keep": cmdKeep, "keepcamellia": cmdKeepCamellia, "pair": cmdPair}, nil)
}

// The firmware of a machine does this to its TPM 1.2, and tpmctl does not. TPM Main Part 3,
// sections 3.2 (TPM_Startup), 5.1 (TPM_SetOwnerInstall), 6.5 (TPM_DisableForceClear), 6.6
// (TSC_PhysicalPresence).
var (
	startup         = []byte{0, 0xC1, 0, 0, 0, 12, 0, 0, 0, 0x99, 0, 1}
	enablePresence  = []byte{0, 0xC1, 0, 0, 0, 12, 0x40, 0, 0, 0x0A, 0, 0x20}
	assertPresence  = []byte{0, 0xC1, 0, 0, 0, 12, 0x40, 0, 0, 0x0A, 0, 0x08}
	lockPresence    = []byte{0, 0xC1, 0, 0, 0, 12, 0x40, 0, 0, 0x0A, 0, 0x04}
	fixPresence     = []byte{0, 0xC1, 0, 0, 0, 12, 0x40, 0, 0, 0x0A, 0, 0x80}
	forbidOwner     = []byte{0, 0xC1, 0, 0, 0, 11, 0, 0, 0, 0x71, 0}
	forbidForce     = []byte{0, 0xC1, 0, 0, 0, 10, 0, 0, 0, 0x5E}
	controlInit     = []byte{0, 0, 0, 2, 0, 0, 0, 0} // swtpm's CMD_INIT: reset the chip
	machineCommands = map[string][][]byte{
		"start":        {startup},
		"locks":        {enablePresence, lockPresence},
		"fixes":        {fixPresence},
		"forbidsowner": {enablePresence, assertPresence, forbidOwner},
		"forbidsclear": {enablePresence, assertPresence, forbidForce},
	}
)

// cmdMachine is "machine DEED": what the firmware does to the TPM that "tpm"
// started. "resets" leaves it before TPM_Startup, "restarts" starts it anew,
// "locks" locks physical presence until the next start, "fixes" fixes for the
// chip's life whether it can be asserted by command.
func cmdMachine(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: machine DEED")
	}
	socket := ts.Getenv("SOCKET")
	deed := args[0]
	if deed == "resets" || deed == "restarts" {
		ts.Check(converse(filepath.Join(filepath.Dir(socket), "ctrl"), 4, controlInit))
		if deed == "resets" {
			return
		}
		deed = "start"
	}
	commands, ok := machineCommands[deed]
	if !ok {
		ts.Fatalf("no such deed: %s", deed)
	}
	ts.Check(converse(socket, 10, commands...))
}

// cmdFill is "fill FILE": load a key, under an SRK with the empty password, as often as
// there is room, and leave it there. "fill sessions" opens sessions.
func cmdFill(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: fill FILE, fill sessions")
	}
	dev, err := transport.Open("unix:"+ts.Getenv("SOCKET"), time.Minute)
	ts.Check(err)
	defer dev.Close()
	if args[0] == "sessions" {
		ts.Check(fillSessions(dev))
		return
	}
	key, err := blob.Parse([]byte(ts.ReadFile(args[0])))
	ts.Check(err)
	conn, srk := tpm12.New(dev), tpm12.Secret(sha1.Sum(nil))
	for err == nil {
		_, err = conn.LoadKey2(tpm12.SRK, key.(*blob.TPMKey).Bytes(), &srk)
	}
	if !errors.Is(err, tpm12.NoSpace) && !errors.Is(err, tpm12.Resources) {
		ts.Check(err)
	}
}

// openSession is TPM_OIAP. TPM Main Part 3, section 18.1 (TPM_OIAP).
var openSession = []byte{0, 0xC1, 0, 0, 0, 10, 0, 0, 0, 0x0A}

// fillSessions opens sessions until the TPM says TPM_RESOURCES.
func fillSessions(dev *transport.Device) error {
	for {
		rsp, err := dev.Send(openSession)
		if err != nil {
			return err
		}
		switch code := tpm12.ResultCode(binary.BigEndian.Uint32(rsp[6:])); code {
		case 0:
		case tpm12.Resources:
			return nil
		default:
			return code
		}
	}
}

// converse sends messages, each answered by size bytes that end in a success.
func converse(path string, size int, messages ...[]byte) error {
	conn, err := net.Dial("unix", path)
	if err != nil {
		return err
	}
	defer conn.Close()
	for _, m := range messages {
		if _, err := conn.Write(m); err != nil {
			return err
		}
		answer := make([]byte, size)
		if _, err := io.ReadFull(conn, answer); err != nil {
			return err
		}
		if !bytes.HasSuffix(answer, []byte{0, 0, 0, 0}) {
			return fmt.Errorf("the answer to %x is %x", m, answer)
		}
	}
	return nil
}
