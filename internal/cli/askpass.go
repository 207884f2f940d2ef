package cli

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"maclef/internal/printable"
)

// popupPrograms ask for a secret in a window. They take the prompt as an argument and print
// the answer as their first line. Distributions install them in different directories.
var popupPrograms = []string{
	"ssh-askpass",
	"ksshaskpass",
	"x11-ssh-askpass",
	"/usr/lib/ssh/ssh-askpass",
	"/usr/lib/openssh/gnome-ssh-askpass",
	"/usr/libexec/openssh/ssh-askpass",
	"/usr/lib/ssh/ssh-askpass-gnome",
	"zenity",
}

// An askpass is what the environment says about asking with a program.
type askpass struct {
	program []string // nil if there is none
	allowed bool     // if there is no terminal
	first   bool     // before the terminal
}

// askpassFromEnv reads SSH_ASKPASS, SSH_ASKPASS_REQUIRE, DISPLAY and WAYLAND_DISPLAY as
// ssh(1) does.
func askpassFromEnv() askpass {
	display := os.Getenv("DISPLAY") != "" || os.Getenv("WAYLAND_DISPLAY") != ""
	require := strings.ToLower(os.Getenv("SSH_ASKPASS_REQUIRE"))
	a := askpass{allowed: display && require != "never" || require == "force"}
	if a.allowed {
		a.program = findAskpass()
	}
	a.first = require == "force" || require == "prefer" && a.program != nil
	return a
}

// findAskpass returns the command line of $SSH_ASKPASS or of a common program; nil if there
// is none.
func findAskpass() []string {
	if program := os.Getenv("SSH_ASKPASS"); program != "" {
		return []string{program}
	}
	for _, name := range popupPrograms {
		path, err := exec.LookPath(name)
		switch {
		case err != nil:
		case name == "zenity":
			return []string{path, "--password", "--title"}
		default:
			return []string{path}
		}
	}
	return nil
}

// askPopup asks in a window, even if there is a terminal.
func (e *Env) askPopup(prompt string) ([]byte, error) {
	return e.askProgram(findAskpass(), printable.Text(prompt))
}

// askProgram runs an askpass program with the prompt as its last argument.
func (e *Env) askProgram(program []string, prompt string) ([]byte, error) {
	if program == nil {
		return nil, WithHint(errors.New("no program to ask for it in a window"),
			"install one (Debian: ssh-askpass, ssh-askpass-gnome or zenity), or name it in SSH_ASKPASS")
	}
	cmd := exec.Command(program[0], append(program[1:len(program):len(program)], prompt)...)
	cmd.Stderr = e.Stderr
	stdout, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		return nil, fmt.Errorf("run %s: %w", program[0], withoutExec(err))
	}
	answer, err := readSecretLine(stdout)
	_, _ = io.Copy(io.Discard, stdout)
	if failed := cmd.Wait(); failed != nil {
		clear(answer)
		return nil, fmt.Errorf("%w (%s: %w)", errCancelled, filepath.Base(program[0]), failed)
	}
	if errors.Is(err, io.EOF) { // no line at all; an empty answer is a line
		return nil, fmt.Errorf("%w (%s printed nothing)", errCancelled, filepath.Base(program[0]))
	}
	return answer, err
}

// withoutExec removes the program's name from an error of package exec.
func withoutExec(err error) error {
	var named *exec.Error
	if errors.As(err, &named) {
		return named.Err
	}
	return withoutPath(err)
}
