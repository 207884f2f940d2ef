// Package maclef_test runs every command of README.md and of the pages in docs/, in their
// order, as a newcomer would.
package maclef_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"maclef/internal/tpmtest"
)

// A reader is somebody who types what a page says.
type reader struct {
	t    *testing.T
	home string   // beside the clone
	dir  string   // where they are
	env  []string // HOME, PATH, the software TPM that was exported last
	port string   // instead of 4433, which may be in use
}

func newReader(t *testing.T) *reader {
	t.Helper()
	root, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	// Beside each other: the reader's own module and the clone "../maclef".
	top := t.TempDir()
	dir, bin := filepath.Join(top, "work"), filepath.Join(top, "bin")
	for _, d := range []string{dir, bin} {
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(root, filepath.Join(top, "maclef")); err != nil {
		t.Fatal(err)
	}
	build := exec.Command("go", "build", "-buildvcs=false", "-o", bin, "./keygen", "./certgen", "./tlsdemo", "./tpmctl", "./ecryptmount")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return &reader{t: t, home: dir, dir: dir, port: freePort(t), env: append(os.Environ(),
		"HOME="+top, "XDG_STATE_HOME=", "PATH="+bin+":"+os.Getenv("PATH"),
		"GOPATH="+goEnv(t, "GOPATH"), "GOCACHE="+goEnv(t, "GOCACHE"), "GOFLAGS=-mod=mod",
		"CI=true", "no_proxy=*",
	)}
}

// with is the reader in another directory, with another TPM.
func (r *reader) with(t *testing.T, dir, tpm string) *reader {
	t.Helper()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return &reader{t: t, home: r.home, dir: dir, env: append(slices.Clip(r.env), "TPMKEY_TPM="+tpm), port: r.port}
}

// typing runs a block. What it exports, and where it goes, holds for all later ones.
func (r *reader) typing(commands []string) {
	r.t.Helper()
	state := filepath.Join(r.t.TempDir(), "state")
	r.run(append(commands, "{ pwd; printenv TPMKEY_TPM; } > "+state+" || true")...)
	data, err := os.ReadFile(state)
	if err != nil {
		r.t.Fatal(err)
	}
	lines := strings.Split(string(data), "\n")
	r.dir = lines[0]
	if lines[1] != "" {
		r.env = append(r.env, "TPMKEY_TPM="+lines[1])
	}
}

func goEnv(t *testing.T, name string) string {
	t.Helper()
	out, err := exec.Command("go", "env", name).Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(out))
}

func freePort(t *testing.T) string {
	t.Helper()
	for range 100 {
		port := strconv.Itoa(20000 + rand.IntN(12000)) // Linux gives other sockets ports from 32768 on
		if ln, err := net.Listen("tcp", "127.0.0.1:"+port); err == nil {
			ln.Close()
			return port
		}
	}
	t.Fatal("no free port")
	return ""
}

// run runs commands in one shell; what they leave in the background ends with
// them. It returns standard output.
func (r *reader) run(commands ...string) string {
	r.t.Helper()
	script := "set -e\n" + strings.Join(commands, "\n") + "\n"
	script = strings.ReplaceAll(script, "4433", r.port)
	cmd := exec.Command("bash", "-c", script)
	cmd.Dir, cmd.Env = r.dir, r.env
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	cmd.WaitDelay = 10 * time.Second
	if err := cmd.Start(); err != nil {
		r.t.Fatal(err)
	}
	timer := time.AfterFunc(2*time.Minute, func() { syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) })
	state, err := cmd.Process.Wait() // not cmd.Wait: the background holds the pipes
	timer.Stop()
	syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) // a shell has its background ignore SIGINT
	cmd.Wait()
	if err != nil || !state.Success() {
		r.t.Fatalf("%v, %v\n%s\nstdout:\n%s\nstderr:\n%s", state, err, script, stdout.Bytes(), stderr.Bytes())
	}
	return stdout.String()
}

// blocks returns the fenced blocks of a language.
func blocks(readme, language string) []string {
	var out []string
	for _, m := range regexp.MustCompile("(?ms)^```"+language+"\n(.*?)^```$").FindAllStringSubmatch(readme, -1) {
		out = append(out, m[1])
	}
	return out
}

// typed returns the commands of a console block: those after a prompt.
func typed(block, prompt string) []string {
	var out []string
	for _, line := range strings.Split(block, "\n") {
		if command, ok := strings.CutPrefix(line, prompt); ok {
			out = append(out, command)
		}
	}
	return out
}

func TestREADME(t *testing.T) {
	tpmtest.Long(t, "it does all that a newcomer does")
	r := newReader(t)
	readme := readPage(t, "README.md")
	if n := r.page(readme); n < 15 {
		t.Errorf("only %d commands found in README.md", n)
	}
	if len(readme) > 12<<10 {
		t.Errorf("README.md has %d bytes: it should fit on two pages", len(readme))
	}
}

// TestDocs types what the pages in docs/ say, but for those that the machines of vm/ write.
func TestDocs(t *testing.T) {
	tpmtest.Long(t, "it does all that a newcomer does")
	r := newReader(t)
	pages, err := filepath.Glob("docs/*.md")
	if err != nil || len(pages) < 10 {
		t.Fatalf("pages %v, %v", pages, err)
	}
	for _, path := range pages {
		page := readPage(t, path)
		checkLinks(t, path, page)
		if strings.HasPrefix(page, "<!-- Made from what vm/") {
			continue
		}
		tpm := "emulator2"
		if strings.Contains(path, "tpm12") {
			tpm = "emulator"
		}
		t.Run(filepath.Base(path), func(t *testing.T) {
			dir := filepath.Join(r.home, filepath.Base(path))
			here := r.with(t, dir, tpm+":"+filepath.Join(dir, "tpm"))
			here.page(page)
			if strings.Contains(page, oldCommands) {
				here.table(page)
			}
		})
	}
}

func readPage(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	checkLinks(t, path, string(data))
	return string(data)
}

func checkLinks(t *testing.T, path, page string) {
	t.Helper()
	for _, link := range regexp.MustCompile(`\]\(([^)#:]+)\)`).FindAllStringSubmatch(page, -1) {
		if _, err := os.Stat(filepath.Join(filepath.Dir(path), link[1])); err != nil {
			t.Errorf("%s: a link leads nowhere: %v", path, err)
		}
	}
}

// page types the commands of a page, and returns how many they are.
func (r *reader) page(page string) (n int) {
	r.t.Helper()
	for _, block := range blocks(page, "console") {
		commands := typed(block, "$ ")
		n += len(commands)
		switch {
		case len(commands) == 0:
			n += r.asRoot(typed(block, "# "))
		case strings.HasPrefix(commands[0], "make"):
			r.make(commands)
		case strings.HasPrefix(commands[0], "go mod"):
			r.library(blocks(page, "go")[0], commands)
		default:
			r.typing(commands)
		}
	}
	return n
}

// asRoot checks that commands of root's, which need a kernel, a chip or a mount,
// are run by a scenario, which make vm-test does. It returns how many they are.
func (r *reader) asRoot(commands []string) int {
	r.t.Helper()
	paths, err := filepath.Glob("vm/scenarios/*.sh")
	if err != nil || len(paths) == 0 {
		r.t.Fatalf("no scenarios: %v", err)
	}
	var lines []string
	for _, path := range paths {
		data, err := os.ReadFile(path)
		if err != nil {
			r.t.Fatal(err)
		}
		lines = append(lines, strings.Split(string(data), "\n")...)
	}
	for _, c := range commands {
		if !slices.ContainsFunc(lines, func(line string) bool { return line == c || strings.HasPrefix(line, c+" >") }) {
			r.t.Errorf("no scenario in vm/scenarios runs %q", c)
		}
	}
	return len(commands)
}

// make checks that a target exists. What it does is run by .ci/run itself, and
// the installation here, elsewhere.
func (r *reader) make(commands []string) {
	r.t.Helper()
	for _, c := range commands {
		clone := filepath.Join(filepath.Dir(r.home), "maclef")
		if c == "make install" {
			r.run("make --no-print-directory -C " + clone + " install DESTDIR=" + r.home + "/root")
			if out := r.run(r.home + "/root/usr/local/bin/tpmctl -version"); !strings.HasPrefix(out, "tpmctl (maclef) ") {
				r.t.Errorf("installed tpmctl says %q", out)
			}
			r.run("make --no-print-directory -C "+clone+" uninstall DESTDIR="+r.home+"/root", "! ls "+r.home+"/root/usr/local/bin/tpmctl")
			continue
		}
		r.run("make --no-print-directory -n -C " + clone + strings.TrimPrefix(c, "make"))
	}
}

// oldCommands begins the table of old commands and those that replace them.
const oldCommands = "| old | now |\n|---|---|\n"

// table runs the new commands of that table.
func (r *reader) table(page string) {
	r.t.Helper()
	_, table, _ := strings.Cut(page, oldCommands)
	table, _, _ = strings.Cut(table, "\n\n")
	old := r.with(r.t, filepath.Join(r.home, "ancien"), "emulator")
	old.run("keygen maclef", "certgen", "echo bonjour >letter.txt", "openssl genrsa -out private.pem 2048")
	for _, row := range strings.Split(strings.TrimSpace(table), "\n") {
		cells := strings.Split(row, "|")
		command := strings.Trim(cells[len(cells)-2], " `")
		r.t.Run(command, func(t *testing.T) { old.row(t, command) })
	}
}

// row runs one of them. Most of their outputs exist by now.
func (r *reader) row(t *testing.T, command string) {
	t.Helper()
	here := *r
	here.t = t
	switch {
	case strings.HasPrefix(command, "tpmctl own"):
		// The emulator is owned: a person is told so, before any prompt.
		here.run("! "+command+" 2>err", "grep 'has an owner already' err")
	case strings.HasPrefix(command, "ecryptmount"):
		here.asRoot([]string{command})
	case strings.HasPrefix(command, "tpmctl clear"), strings.HasPrefix(command, "tpmctl disable"),
		strings.HasPrefix(command, "tpmctl enable"), strings.Contains(command, "activate"), strings.HasPrefix(command, "tpmctl reset"):
		// A TPM of its own, whose owner's secret was never set.
		for _, adapt := range [][2]string{
			{"prompt", "wellknown"}, {"clear", "clear -yes"}, {"clear -yes", "clear -yes -owner-pass wellknown"},
			{"-owner-pass wellknown -force", "-force"}, {"reset-lockout", "reset-lockout -owner-pass wellknown"},
		} {
			command = strings.Replace(command, adapt[0], adapt[1], 1)
		}
		here.run("TPMKEY_TPM=emulator:" + t.TempDir() + "/tpm " + command)
	case strings.HasPrefix(command, "tlsdemo"):
		here.run(command+" &", "curl --silent --retry 9 --retry-connrefused --cacert moncert https://localhost:4433/status")
	case strings.HasPrefix(command, "keygen -a"):
		here.run(command + " -key-pass pass:motdepasse -force")
	case strings.HasPrefix(command, "keygen -w"):
		here.run(command + " -owner-pass wellknown -force")
	case strings.HasPrefix(command, "keygen"), strings.HasPrefix(command, "certgen"):
		here.run(command + " -force")
	case strings.HasPrefix(command, "tpmctl decrypt"):
		here.run("rm -f letter.bin", "tpmctl encrypt -key maclef -in letter.txt -out letter.bin", command)
	default:
		here.run(command)
	}
}

// library builds the README's program in a module of its own, and talks to it.
func (r *reader) library(program string, commands []string) {
	r.t.Helper()
	sum, err := os.ReadFile("go.sum")
	if err != nil {
		r.t.Fatal(err)
	}
	for name, content := range map[string]string{
		"main.go": strings.ReplaceAll(program, "4433", r.port), "go.sum": string(sum),
	} {
		if err := os.WriteFile(filepath.Join(r.home, name), []byte(content), 0o600); err != nil {
			r.t.Fatal(err)
		}
	}
	there := r.with(r.t, r.home, "emulator2")
	there.run(append(commands, "go build -o server .")...)
	for tpm, version := range map[string]string{"emulator": "1.2", "emulator2": "1.3"} {
		here := r.with(r.t, filepath.Join(r.home, "server-"+tpm), tpm)
		out := here.run("keygen maclef", "certgen", "../server &",
			fmt.Sprintf("curl --silent --retry 9 --retry-connrefused --cacert moncert --tlsv%s -o page -w '%%{http_code} %%{ssl_verify_result}' https://localhost:%s/", version, r.port))
		if out != "200 0" {
			r.t.Errorf("the library's example answers %q with %s", out, tpm)
		}
	}
}

// TestDemo runs make demo's script, for each generation.
func TestDemo(t *testing.T) {
	tpmtest.Long(t, "it does all that a newcomer does")
	r := newReader(t)
	root, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	top := filepath.Dir(r.home)
	if err := os.Symlink(filepath.Join(root, "scripts"), filepath.Join(top, "scripts")); err != nil {
		t.Fatal(err)
	}
	for setting, want := range map[string]string{
		"": "TLS 1.2", "TPM=1.2 ": "TLS 1.2", "TPM=2.0 ": "TLS 1.3",
	} {
		out := r.run(setting + "PORT=" + r.port + " " + top + "/scripts/demo")
		if !strings.Contains(out, "protocol    "+want) || !strings.Contains(out, "$ keygen maclef\n") {
			t.Errorf("%smake demo:\n%s", setting, out)
		}
	}
	r.run("! TPM=3 " + top + "/scripts/demo")
}
