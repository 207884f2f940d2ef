package cli

import (
	"errors"
	"fmt"
	"strings"
)

// Parse reads the arguments. It returns one operand for each of Args; a missing optional
// one is empty. Its error is a [UsageError], or [Help] for -h and -version. It reads no
// secret and no input.
func (fs *FlagSet) Parse(args []string) ([]string, error) {
	fs.env.inputFlags = fs.inputs
	operands, err := fs.scan(args)
	if err == nil {
		operands, err = fs.checkOperands(operands)
	}
	if err == nil {
		err = fs.checkInputs()
	}
	if err == nil {
		err = fs.secrets.checkStdin(fs.inputs)
	}
	if err == nil {
		err = fs.secrets.openDescriptors()
	}
	var usage *UsageError
	if errors.As(err, &usage) && usage.Advice == "" {
		usage.Advice = fs.Name + " -h lists the flags"
	}
	if err != nil {
		return nil, err
	}
	return operands, nil
}

// scan sets flags and returns the operands, which may stand between flags.
func (fs *FlagSet) scan(args []string) (operands []string, err error) {
	for len(args) > 0 {
		arg := args[0]
		args = args[1:]
		switch {
		case arg == "--":
			return append(operands, args...), nil
		case len(arg) < 2 || arg[0] != '-':
			operands = append(operands, arg)
		default:
			if args, err = fs.scanFlag(arg, args); err != nil {
				return nil, err
			}
		}
	}
	return operands, nil
}

// scanFlag sets the flag in arg. Its value may be the first of rest. It returns the
// remaining arguments.
func (fs *FlagSet) scanFlag(arg string, rest []string) ([]string, error) {
	name, value, hasValue := strings.Cut(strings.TrimPrefix(arg[1:], "-"), "=")
	e := fs.lookup(name)
	if e == nil {
		switch name {
		case "h", "help":
			return nil, &Help{Text: fs.UsageText()}
		case "version":
			return nil, &Help{Text: VersionText(fs.Name)}
		}
		// Drop what follows a colon: it may be a secret, if a space is missing.
		name, _, _ = strings.Cut(name, ":")
		return nil, Usagef("unknown flag -%s", name)
	}
	switch {
	case hasValue:
	case isBool(e):
		value = "true"
	case len(rest) == 0:
		return nil, Usagef("flag -%s needs a value", name)
	default:
		value, rest = rest[0], rest[1:]
	}
	fs.sets++
	e.set = fs.sets
	if err := e.value.Set(value); err != nil {
		return nil, valueError(e, name, value, err)
	}
	return rest, nil
}

// valueError says what is wrong with a value. It shows neither a secret nor a policy, in which some
// write one (password:SECRET).
func valueError(e *entry, name, value string, err error) error {
	var usage *UsageError
	if !errors.As(err, &usage) {
		usage = &UsageError{Text: err.Error()}
	}
	subject := "flag -" + name
	switch e.value.(type) {
	case *SecretFlag, *PolicyFlag:
	default:
		if !isBool(e) {
			subject += " " + value
		}
	}
	return &UsageError{Text: subject + ": " + usage.Text, Advice: usage.Advice}
}

// checkOperands checks the operands against Args, and adds empty ones for those that are
// missing.
func (fs *FlagSet) checkOperands(operands []string) ([]string, error) {
	if len(operands) > len(fs.Args) {
		extra := operands[len(fs.Args):]
		word := "argument"
		if len(extra) > 1 {
			word = "arguments"
		}
		if name := fs.secrets.given(); name != "" {
			return nil, &UsageError{
				Text:   fmt.Sprintf("unexpected %s (not repeated here, where -%s was given: it may be a secret)", word, name),
				Advice: "a secret with spaces in it stands in quotes, with its form: -" + name + " 'pass:TEXT'; " + fs.Name + " -h lists the flags",
			}
		}
		return nil, Usagef("unexpected %s: %s", word, strings.Join(extra, " "))
	}
	fitted := make([]string, len(fs.Args))
	copy(fitted, operands)
	for i, arg := range fs.Args {
		switch {
		case i >= len(operands) && !strings.HasPrefix(arg, "["):
			return nil, Usagef("%s is missing", arg)
		case i < len(operands) && operands[i] == "":
			return nil, Usagef("%s is empty", strings.Trim(arg, "[]"))
		}
	}
	return fitted, nil
}

func isBool(e *entry) bool {
	b, ok := e.value.(interface{ IsBoolFlag() bool })
	return ok && b.IsBoolFlag()
}

// checkInputs returns an error if two inputs read standard input: the second one would be
// empty.
func (fs *FlagSet) checkInputs() error {
	var first *entry
	for _, in := range fs.inputs {
		switch {
		case !in.isStdin():
		case first == nil:
			first = in
		default:
			return &UsageError{
				Text:   fmt.Sprintf("-%s and -%s both read standard input", first.names[len(first.names)-1], in.names[len(in.names)-1]),
				Advice: "give one of them a file",
			}
		}
	}
	return nil
}
