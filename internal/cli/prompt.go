package cli

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"

	"maclef/internal/printable"
)

// newSecretTries is how often the user may type a new secret until both entries are equal.
const newSecretTries = 3

// errCancelled: the user closed the prompt without an answer.
var errCancelled = errors.New("cancelled at the prompt")

// errTwoSecrets: the two entries of a new secret differed too often.
var errTwoSecrets = fmt.Errorf("the two texts differed %d times", newSecretTries)

// askSecret asks for the secret of a flag with the function ask: twice for a new secret, and
// twice if the user gives an empty one to a TPM, which may count it as wrong.
func (e *Env) askSecret(s *SecretFlag, ask func(string) ([]byte, error)) (text []byte, err error) {
	if e.unattended.Load() {
		return nil, fmt.Errorf("-%s: %w", s.name(), ErrUnattended)
	}
	defer e.lockScreen()()
	ofTPM := !s.options.New && !s.options.Text
	if s.options.New {
		text, err = askTwice(s.Label, ask)
	} else {
		text, err = ask(s.Label + ": ")
	}
	if err == nil && ofTPM && len(text) == 0 {
		text, err = ask("Nothing was typed. An empty secret, if it is wrong, can cost a try; Enter sends it. " + s.Label + ": ")
	}
	if err == nil {
		return text, nil
	}
	err = fmt.Errorf("-%s: %w", s.name(), err)
	if !errors.Is(err, errNoPrompt) {
		return nil, err
	}
	return nil, WithHint(err, "give it with -"+s.name()+" file:PATH, env:VAR, fd:N or stdin, or set SSH_ASKPASS and SSH_ASKPASS_REQUIRE=force"+s.NoPromptHint)
}

// askTwice asks for a new secret twice.
func askTwice(label string, ask func(string) ([]byte, error)) ([]byte, error) {
	prompt := label + ": "
	for range newSecretTries {
		first, err := ask(prompt)
		if err != nil {
			return nil, err
		}
		second, err := ask(label + ", once more: ")
		if err != nil {
			clear(first)
			return nil, err
		}
		same := bytes.Equal(first, second)
		clear(second)
		if same {
			return first, nil
		}
		clear(first)
		prompt = "The two differ, try again. " + label + ": "
	}
	return nil, errTwoSecrets
}

// ask asks on the terminal. It asks with a program if there is no terminal, or if the
// environment says so, as OpenSSH does.
func (e *Env) ask(prompt string) ([]byte, error) {
	prompt = printable.Text(prompt)
	policy := askpassFromEnv()
	if policy.first {
		return e.askProgram(policy.program, prompt)
	}
	tty, err := openTTY()
	if err == nil {
		defer tty.Close()
		return askTTY(tty, prompt)
	}
	if policy.allowed && policy.program != nil {
		return e.askProgram(policy.program, prompt)
	}
	return nil, errNoPrompt
}

var errNoPrompt = errors.New("there is no terminal to ask for it")

// HasTerminal reports whether the process has a controlling terminal, which may close.
func HasTerminal() bool {
	tty, err := openTTY()
	if err == nil {
		tty.Close()
	}
	return err == nil
}

func askTTY(tty *os.File, prompt string) ([]byte, error) {
	text, err := readHidden(tty, prompt)
	if errors.Is(err, io.EOF) {
		return nil, errCancelled
	}
	if err != nil {
		return nil, fmt.Errorf("ask on the terminal: %w", withoutPath(err))
	}
	return text, nil
}

// errNotConfirmed: the user did not type the word.
var errNotConfirmed = errors.New("not confirmed, nothing was done")

// Confirm asks the user to confirm on the terminal, by typing word and Enter. It returns
// nil if the user does. Without a terminal the error names the flag that confirms.
func (e *Env) Confirm(question, word, flag string) error {
	defer e.lockScreen()()
	tty, err := openTTY()
	if err != nil {
		return WithHint(errors.New("a confirmation is needed, and there is no terminal to ask on; nothing was done"),
			"in a script, use -"+flag)
	}
	defer tty.Close()
	defer OnSignal(func() { fmt.Fprintf(tty, "\n%s: note: nothing was done\n", e.Name) })()
	question = fmt.Sprintf("%s Type %s to go on: ", printable.Text(question), word)
	if _, err := io.WriteString(tty, question); err != nil {
		_, _ = io.WriteString(e.Stderr, question) // the console is read-only
	}
	answer, ended, err := readLine(tty)
	switch {
	case errors.Is(err, io.EOF):
		return errNotConfirmed
	case err != nil:
		return fmt.Errorf("ask on the terminal: %w", withoutPath(err))
	case string(answer) != word || !ended: // Ctrl-D is not Enter
		return errNotConfirmed
	}
	return nil
}
