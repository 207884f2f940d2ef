package cli

import (
	"errors"
	"fmt"
	"io"
)

// errNotConfirmed: the user did not type the word.
var errNotConfirmed = errors.New("not confirmed, nothing was done")

// Confirm has the user agree, on the terminal, by typing a word in full and Enter;
// nil is yes. Where there is no terminal to ask on, the error says which flag stands for
// the answer.
func (e *Env) Confirm(question, word, flag string) error {
	defer e.takeScreen()()
	tty, err := openTTY()
	if err != nil {
		return WithHint(errors.New("this has to be confirmed, and there is no terminal to ask on; nothing was done"),
			"in a script, say -"+flag)
	}
	defer tty.Close()
	question = fmt.Sprintf("%s Type %s to go on: ", printable(question), word)
	if _, err := io.WriteString(tty, question); err != nil {
		_, _ = io.WriteString(e.Stderr, question) // a console that is for reading only
	}
	answer, ended, err := readLine(tty)
	switch {
	case errors.Is(err, io.EOF):
		return errNotConfirmed
	case err != nil:
		return fmt.Errorf("ask on the terminal: %w", withoutPath(err))
	case string(answer) != word || !ended: // Ctrl-D is no Enter
		return errNotConfirmed
	}
	return nil
}
