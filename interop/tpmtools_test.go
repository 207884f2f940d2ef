package interop

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"maclef/blob"
	"maclef/internal/tpmtest"
	"maclef/tpmkey"
)

// A tcsd is a directory with the state of the tutorial's TPM 1.2, whose SRK has the empty password.
// Its TPM belongs either to this project or to trousers' daemon.
type tcsd struct {
	dir  string
	port [2]string // of the software TPM and of the daemon
}

// TestTPMTools seals and unseals with tpm-tools and with this project, in both directions.
func TestTPMTools(t *testing.T) {
	d := newTCSD(t)
	ours, err := sealOurs(t)
	if err != nil {
		t.Fatal(err)
	}
	for name, data := range ours {
		d.write(t, name, data)
	}
	d.write(t, "message", message)
	d.serve(t)
	for name := range ours {
		d.run(t, fmt.Sprintf("tpm_unsealdata -i %s -o %s.out", name, name))
		if got := d.read(t, name+".out"); !bytes.Equal(got, message) {
			t.Errorf("tpm_unsealdata made %q of %s", got, name)
		}
	}
	d.run(t, "tpm_sealdata -i message -o theirs")
	d.run(t, "tpm_sealdata -i message -o theirs-pcr8 -p 8")
	d.run(t, "tpm_sealdata -i message -o theirs-pcr16 -p 8 -p 16")
	tpm := openTutorial(t)
	for _, name := range []string{"theirs", "theirs-pcr8", "theirs-pcr16"} {
		file, err := blob.Parse(d.read(t, name))
		if err != nil {
			t.Fatal(err)
		}
		got, err := tpm.Unseal(t.Context(), file, &tpmkey.LoadOptions{ParentAuth: tpmkey.Password(nil)})
		if err != nil || !bytes.Equal(got, message) {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
}

// sealOurs seals the message with this project.
func sealOurs(t *testing.T) (map[string][]byte, error) {
	tpm := openTutorial(t)
	policy, err := tpmkey.ParsePolicy("pcr:sha1:8,16")
	if err != nil {
		return nil, err
	}
	files := map[string][]byte{}
	for name, opts := range map[string]*tpmkey.SealOptions{"ours": {}, "ours-pcr": {Policy: policy}} {
		opts.ParentAuth = tpmkey.Password(nil)
		file, err := tpm.Seal(t.Context(), message, opts)
		if err != nil {
			return nil, err
		}
		if files[name], err = file.Marshal(file.Container()); err != nil {
			return nil, err
		}
	}
	return files, nil
}

// openTutorial opens a copy of the tutorial's TPM. All copies open each other's files.
func openTutorial(t *testing.T) *tpmkey.TPM {
	t.Helper()
	tpm, err := tpmkey.Open(t.Context(), tpmtest.Start(t, tpmtest.Tutorial).Socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tpm.Close() })
	return tpm
}

func newTCSD(t *testing.T) *tcsd {
	t.Helper()
	d := &tcsd{dir: t.TempDir()}
	for i := range d.port {
		l, err := net.Listen("tcp", "localhost:0")
		if err != nil {
			t.Fatal(err)
		}
		_, d.port[i], _ = net.SplitHostPort(l.Addr().String())
		l.Close()
	}
	for _, name := range []string{"tpm-00.permall", "system.data"} {
		d.write(t, name, tpmtest.Fixture(t, "tpm12-tutorial/"+name))
	}
	return d
}

func (d *tcsd) write(t *testing.T, name string, data []byte) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(d.dir, name), data, 0o600); err != nil {
		t.Fatal(err)
	}
}

func (d *tcsd) read(t *testing.T, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(d.dir, name))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// serve starts a software TPM and the daemon, which refuses files that do not belong to the user tss.
func (d *tcsd) serve(t *testing.T) {
	t.Helper()
	d.write(t, "tcsd.conf", []byte(fmt.Sprintf("port = %s\nsystem_ps_file = %s/system.data\n", d.port[1], d.dir)))
	d.start(t, "swtpm", "socket", "--tpmstate", "dir="+d.dir, "--server", "type=tcp,port="+d.port[0],
		"--ctrl", "type=unixio,path="+d.dir+"/ctrl", "--flags", "not-need-init,startup-clear")
	d.await(t, d.port[0])
	asRoot := "chown root:tss tcsd.conf && chmod 640 tcsd.conf && chown tss:tss system.data && chmod go+x .. . && " +
		"TCSD_USE_TCP_DEVICE=1 TCSD_TCP_DEVICE_HOSTNAME=localhost TCSD_TCP_DEVICE_PORT=" + d.port[0] + " exec tcsd -e -f -c " + d.dir + "/tcsd.conf"
	if os.Geteuid() == 0 {
		d.start(t, "sh", "-c", asRoot)
	} else {
		d.start(t, "sudo", "-n", "timeout", "120", "sh", "-c", asRoot)
	}
	d.await(t, d.port[1])
}

func (d *tcsd) start(t *testing.T, name string, args ...string) {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Dir = d.dir
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if cmd.Process.Kill() == nil { // one that runs as root ends by itself
			cmd.Wait()
		}
	})
}

// await waits until a port answers. The software TPM takes the daemon's connection after that.
func (d *tcsd) await(t *testing.T, port string) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		if conn, err := net.Dial("tcp", "localhost:"+port); err == nil {
			conn.Close()
			return
		}
	}
	t.Fatalf("nothing listens at port %s", port)
}

// run runs a program of tpm-tools, which asks for the SRK's password on a terminal.
func (d *tcsd) run(t *testing.T, command string) {
	t.Helper()
	cmd := exec.Command("script", "-qec", command, "/dev/null")
	cmd.Dir = d.dir
	cmd.Env = append(os.Environ(), "TSS_TCSD_HOSTNAME=localhost", "TSS_TCSD_PORT="+d.port[1])
	cmd.Stdin = strings.NewReader("\n")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", command, err, out)
	}
}
