package main

import (
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"maclef/internal/tpmtest"
	"maclef/internal/transport/frame"
	"maclef/tpmkey"
)

const (
	// wait is what these tests give with -wait.
	wait = time.Second
	// late is how much later a command may end.
	late = 500 * time.Millisecond
	// slack is for the machine, which others may keep busy.
	slack = 700 * time.Millisecond
)

// listen has a server that takes connections, and does with them what serve does.
func listen(t *testing.T, network string, serve func(net.Conn)) (name string) {
	t.Helper()
	address := "127.0.0.1:0"
	if network == "unix" {
		address = filepath.Join(t.TempDir(), "s")
	}
	listener, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			t.Cleanup(func() { conn.Close() })
			go serve(conn)
		}
	}()
	return network + ":" + listener.Addr().String()
}

// heldSWTPM is a software TPM that somebody has connected to, and keeps.
func heldSWTPM(t *testing.T, network string) (name string) {
	t.Helper()
	if network == "unix" {
		swtpm := tpmtest.Start(t, tpmtest.TPM20)
		hold(t, "unix", strings.TrimPrefix(swtpm.Socket, "unix:"))
		return swtpm.Socket
	}
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := free.Addr().String()
	free.Close()
	_, port, _ := net.SplitHostPort(address)
	cmd := exec.Command("swtpm", "socket", "--tpm2", "--tpmstate", "dir="+t.TempDir(), "--flags", "not-need-init,startup-clear",
		"--server", "type=tcp,bindaddr=127.0.0.1,port="+port, "--ctrl", "type=unixio,path="+filepath.Join(t.TempDir(), "c"))
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	hold(t, "tcp", address)
	return "tcp:" + address
}

// hold keeps a software TPM, which may be starting still, to this program until the end
// of the test.
func hold(t *testing.T, network, address string) {
	t.Helper()
	var conn net.Conn
	err := errors.New("not tried")
	for end := time.Now().Add(20 * time.Second); err != nil && time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		conn, err = net.Dial(network, address)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	// TPM2_GetRandom, to see that the TPM serves this connection.
	if _, err := conn.Write([]byte{0x80, 1, 0, 0, 0, 12, 0, 0, 1, 0x7B, 0, 8}); err != nil {
		t.Fatal(err)
	}
	conn.SetReadDeadline(time.Now().Add(20 * time.Second))
	if _, err := frame.Read(conn); err != nil {
		t.Fatal(err)
	}
}

// endsInTime runs tpmctl, which must fail in time because the TPM is busy.
func endsInTime(t *testing.T, what string, command func() error) {
	t.Helper()
	begin := time.Now()
	err := command()
	took := time.Since(begin)
	if !errors.Is(err, tpmkey.ErrBusy) || !strings.Contains(err.Error(), what) {
		t.Errorf("%v; want %q", err, what)
	}
	if took < wait-late || took > wait+late+slack {
		t.Errorf("it took %v", took)
	}
}

// -wait bounds how long a command waits for a TPM that others keep, or that is none.
func TestWaitIsKept(t *testing.T) {
	tpmtest.Long(t, tpmtest.Waits)
	for name, c := range map[string]struct {
		tpm  func(t *testing.T, network string) string
		want string
	}{
		"held": {heldSWTPM, "another program is using it, and swtpm serves one at a time"},
		"mute": {func(t *testing.T, network string) string { return listen(t, network, func(net.Conn) {}) }, "TPM is busy: "},
		"deaf": {func(t *testing.T, network string) string {
			return listen(t, network, func(c net.Conn) { io.Copy(io.Discard, c) })
		}, "TPM is busy: "},
	} {
		for _, network := range []string{"unix", "tcp"} {
			for _, command := range []string{"status", "sign"} {
				t.Run(name+" "+network+" "+command, func(t *testing.T) {
					t.Parallel()
					if network == "tcp" {
						tpmtest.Long(t, "it waits for a second, as with unix")
					}
					args := []string{command, "-tpm", c.tpm(t, network), "-wait", wait.String()}
					if command == "sign" {
						key := tpmtest.FixturePath(t, "tpm2/e2-rsa.pem")
						args = append(args, "-key", key, "-in", key)
					}
					endsInTime(t, c.want, func() error {
						return run(args, strings.NewReader(""), io.Discard, io.Discard)
					})
				})
			}
		}
	}
}

// -wait also bounds a wait in the middle of a command, which waits for its turn anew.
func TestWaitForTurnIsKept(t *testing.T) {
	tpmtest.Long(t, tpmtest.Waits)
	swtpm := tpmtest.Start(t, tpmtest.Keys20)
	secret := filepath.Join(t.TempDir(), "secret")
	if err := syscall.Mkfifo(secret, 0o600); err != nil {
		t.Fatal(err)
	}
	key := tpmtest.FixturePath(t, "tpm2/e2-p256-auth.pem")
	done := make(chan error)
	go func() {
		done <- run([]string{"sign", "-key", key, "-in", key, "-key-pass", "file:" + secret, "-tpm", swtpm.Socket, "-wait", wait.String()},
			strings.NewReader(""), io.Discard, io.Discard)
	}()
	pipe, err := os.OpenFile(secret, os.O_WRONLY, 0) // when it asks for the secret
	if err != nil {
		t.Fatal(err)
	}
	defer pipe.Close()
	hold(t, "unix", strings.TrimPrefix(swtpm.Socket, "unix:"))
	endsInTime(t, "waited 1s", func() error {
		io.WriteString(pipe, "motdepasse\n")
		return <-done
	})
}
