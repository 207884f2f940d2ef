package cli

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"sync"

	"maclef/tpmkey"
)

// maxSecret is the maximum length of a secret, in bytes.
const maxSecret = 4096

// SecretOptions describe a secret flag.
type SecretOptions struct {
	Default string // "wellknown" or "prompt"
	Label   string // prompt without the colon: "Secret of the storage root key (SRK)"
	New     bool   // the secret is new: a prompt asks twice
	// Text says that the secret is a passphrase, not the secret of a TPM. Read it with
	// [SecretFlag.Text]. The flag does not accept utf16:, sha1: and wellknown.
	Text bool
}

// A SecretFlag is a flag whose value is a SECRET. Parse checks the value. The secret itself
// is read when it is first needed.
type SecretFlag struct {
	Label        string // the prompt; a command may add the key file's name
	NoPromptHint string // ends the hint if nobody can be asked

	fs      *FlagSet
	entry   *entry
	options SecretOptions
	spec    secretSpec
	line    *lineResult // read before it was needed, if flags share a source

	mu    sync.Mutex // guards what follows
	read  bool       // value and err are the result of resolve
	value tpmkey.Secret
	err   error
}

// Secret defines a flag that takes a SECRET.
func (fs *FlagSet) Secret(names string, options SecretOptions, usage string) *SecretFlag {
	s := &SecretFlag{Label: options.Label, fs: fs, options: options}
	if err := s.Set(options.Default); err != nil {
		panic("cli: default of -" + names + ": " + err.Error())
	}
	fs.Var(s, names, usage)
	s.entry = fs.entries[len(fs.entries)-1]
	fs.secrets.flags = append(fs.secrets.flags, s)
	if !options.New && !options.Text {
		s.NoPromptHint = "; if none was ever set, -" + s.name() + " wellknown"
	}
	return s
}

// Set parses a SECRET. Its error does not contain it.
func (s *SecretFlag) Set(text string) error {
	spec, err := parseSecretSpec(text)
	if err != nil {
		return err
	}
	if s.options.Text && (spec.utf16 || spec.form == formWellKnown || spec.form == formSHA1) {
		return Usagef("this is a passphrase: it takes prompt, pass:TEXT, hex:DIGITS, env:VAR, file:PATH, fd:N or stdin")
	}
	s.spec = spec
	return nil
}

// String returns the form, never the secret.
func (s *SecretFlag) String() string {
	switch s.spec.form {
	case formWellKnown:
		return "wellknown"
	case formPrompt, formPopup:
		return "prompt"
	}
	return "(hidden)"
}

// Given reports whether the flag is on the command line.
func (s *SecretFlag) Given() bool { return s.entry.set > 0 }

// UsePopup asks for the secret in a window. It hashes the secret as UTF-16LE, as the
// windows of a TSS do, unless AsUTF8 is called. It returns an error if the flag was given,
// too.
func (s *SecretFlag) UsePopup() error {
	if s.Given() {
		return Usagef("a secret is given with -%s and asked for in a window, too: leave one out", s.name())
	}
	s.spec = secretSpec{form: formPopup, utf16: true}
	return nil
}

// AsUTF8 makes UsePopup hash the secret as UTF-8, for a TPM 2.0.
func (s *SecretFlag) AsUTF8() { s.spec.utf16 = false }

// Secret returns the secret for package tpmkey, which asks for it when a TPM command needs
// it. It is read only once, even if it is used several times or the TPM restarts: later
// there may be no terminal and no second line.
func (s *SecretFlag) Secret() tpmkey.Secret {
	switch s.spec.form {
	case formWellKnown:
		return tpmkey.WellKnown()
	case formSHA1:
		return tpmkey.SHA1Secret(s.spec.digest)
	}
	return tpmkey.AskSecret(s.Resolve).Keep()
}

// Resolve reads or asks for the secret now, for commands that are sure to need it.
func (s *SecretFlag) Resolve() (tpmkey.Secret, error) {
	if s.spec.form == formWellKnown || s.spec.form == formSHA1 {
		return s.Secret(), nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.read {
		s.value, s.err = s.resolve()
		s.read = !errors.Is(s.err, ErrUnattended)
	}
	return s.value, s.err
}

// RereadSecrets has the secrets of files (file:PATH) read again when they are needed next. What was
// asked for, and lines of descriptors and pipes, cannot be read twice and stay. forget clears the
// secrets of before.
func (fs *FlagSet) RereadSecrets() (forget func()) {
	g := &fs.secrets
	var again []*SecretFlag
	for _, s := range g.flags {
		if s.spec.form != formFile {
			continue
		}
		if info, err := os.Stat(s.spec.arg); err != nil || info.Mode().IsRegular() {
			s.mu.Lock()
			defer s.mu.Unlock()
			again = append(again, s)
		}
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	var before []tpmkey.Secret
	for _, s := range again {
		g.close(s.spec.source())
		if s.line != nil {
			clear(s.line.text)
		}
		before = append(before, s.value)
		s.line, s.read, s.value, s.err = nil, false, tpmkey.Secret{}, nil
	}
	return func() {
		for _, s := range before {
			s.Clear()
		}
	}
}

func (s *SecretFlag) resolve() (tpmkey.Secret, error) {
	text, err := s.readText()
	if err != nil {
		return tpmkey.Secret{}, err
	}
	defer clear(text)
	if !s.spec.utf16 {
		return tpmkey.Password(text), nil
	}
	secret, err := tpmkey.PasswordUTF16(text)
	if err != nil {
		return tpmkey.Secret{}, fmt.Errorf("-%s: %w", s.name(), err)
	}
	return secret, nil
}

// Text reads or asks for a passphrase. The caller owns the bytes and clears them. Call it
// only once.
func (s *SecretFlag) Text() ([]byte, error) {
	if !s.options.Text {
		return nil, errors.New("the secret of a TPM is not given out as text")
	}
	return s.readText()
}

// readText returns the bytes of the secret as the user gave them.
func (s *SecretFlag) readText() ([]byte, error) {
	env := s.fs.env
	switch s.spec.form {
	case formPass, formHex:
		return []byte(s.spec.arg), nil
	case formEnv:
		return s.readEnv()
	case formPrompt:
		return env.askSecret(s, env.ask)
	case formPopup:
		return env.askSecret(s, env.askPopup)
	case formStdin:
		if IsTerminal(env.Stdin) { // a person types it: ask without echo
			return env.askSecret(s, env.ask)
		}
	}
	defer env.pause()()
	text, err := s.fs.secrets.readLine(s)
	if err == nil && s.options.New {
		err = s.checkNew(text)
	}
	if err != nil {
		clear(text)
		return nil, err
	}
	return text, nil
}

// checkNew returns an error if a new secret is not all that its file holds, or no text. The user
// meant the whole file, and would not know later which part of it became the secret.
func (s *SecretFlag) checkNew(text []byte) error {
	doing := fmt.Sprintf("-%s: a new secret is one line of text, and %s", s.name(), s.spec.source())
	switch {
	case bytes.IndexByte(text, 0) >= 0:
		return WithHint(errors.New(doing+" has bytes that are no text (NUL)"),
			`"openssl rand -hex 16" makes a secret; bytes are given as hex:DIGITS, and "od -An -v -tx1 FILE | tr -d ' \n'" prints the digits`)
	case s.line.more:
		return WithHint(errors.New(doing+" has more lines"),
			`write the secret alone into a file: "head -n 1 FILE" prints the first line, and "openssl rand -hex 16" makes a new secret`)
	}
	return nil
}

func (s *SecretFlag) readEnv() ([]byte, error) {
	value, ok := os.LookupEnv(s.spec.arg)
	switch {
	case !ok:
		return nil, WithHint(
			fmt.Errorf("-%s: environment variable %s is not set", s.name(), s.spec.arg),
			"export it; if the password is empty, set it to nothing")
	case len(value) > maxSecret:
		return nil, fmt.Errorf("-%s: environment variable %s is longer than %d bytes", s.name(), s.spec.arg, maxSecret)
	}
	return []byte(value), nil
}

// name returns the flag's longest name.
func (s *SecretFlag) name() string {
	longest := ""
	for _, n := range s.entry.names {
		if len(n) > len(longest) {
			longest = n
		}
	}
	return longest
}
