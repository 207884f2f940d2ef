package cli

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// A FlagSet is the command line of a command or a subcommand. Unlike package flag's
// FlagSet, it accepts flags after operands ("--" ends the flags), and a flag can have
// several names.
//
// Names are written "a|auth": short and long. As in package flag, a usage text names the
// value between backquotes.
type FlagSet struct {
	Name    string   // of the command; "tpmctl sign" for a subcommand
	Purpose string   // one sentence, first in the usage text
	Args    []string // operands: "FILE", or "[FILE]" if it is optional
	Notes   string   // paragraphs after the flags, separated by empty lines; may be empty
	Example string   // command lines, without a prompt

	env     *Env
	std     *flag.FlagSet // definitions and conversions only
	entries []*entry
	secrets secretGroup
	inputs  []*entry // flags whose value "-" means that data comes from standard input
	sets    int      // flags set so far
}

// An entry is a flag with all its names.
type entry struct {
	names   []string
	value   flag.Value
	isStdin func() bool // input flags: reports whether the value means standard input
	set     int         // position among the flags on the command line, from 1; 0 if not given
}

// Flags returns an empty FlagSet. Fill in its exported fields, define flags, and call
// Parse.
func (e *Env) Flags() *FlagSet {
	std := flag.NewFlagSet(e.Name, flag.ContinueOnError)
	std.SetOutput(io.Discard)
	return &FlagSet{Name: e.Name, env: e, std: std}
}

// Var defines a flag with any value.
func (fs *FlagSet) Var(value flag.Value, names, usage string) {
	entry := &entry{names: strings.Split(names, "|"), value: value}
	for _, name := range entry.names {
		fs.std.Var(value, name, usage)
	}
	fs.entries = append(fs.entries, entry)
}

// String defines a flag with a text.
func (fs *FlagSet) String(names, def, usage string) *string {
	v := def
	fs.Var((*stringValue)(&v), names, usage)
	return &v
}

// Bool defines a flag without a value.
func (fs *FlagSet) Bool(names, usage string) *bool {
	v := false
	fs.Var((*boolValue)(&v), names, usage)
	return &v
}

// Int defines a flag with a whole number from low to high.
func (fs *FlagSet) Int(names string, def, low, high int, usage string) *int {
	v := &intValue{n: def, low: low, high: high}
	fs.Var(v, names, usage)
	return &v.n
}

// Choice defines a flag whose value is one of choices.
func (fs *FlagSet) Choice(names, def, usage string, choices ...string) *string {
	v := &choiceValue{s: def, choices: choices}
	fs.Var(v, names, usage)
	return &v.s
}

// Input defines a flag that names a file to read; "-" is standard input. Parse returns an
// error if data and a secret both come from standard input.
func (fs *FlagSet) Input(names, def, usage string) *string {
	v := fs.String(names, def, usage)
	in := fs.entries[len(fs.entries)-1]
	in.isStdin = func() bool { return *v == "-" || *v == "" && (def == "-" || in.set > 0) }
	fs.inputs = append(fs.inputs, in)
	return v
}

// Given reports whether the flag is on the command line, under any of its names.
func (fs *FlagSet) Given(name string) bool {
	e := fs.lookup(name)
	return e != nil && e.set > 0
}

func (fs *FlagSet) lookup(name string) *entry {
	for _, e := range fs.entries {
		for _, n := range e.names {
			if n == name {
				return e
			}
		}
	}
	return nil
}

type stringValue string

func (v *stringValue) Set(s string) error { *v = stringValue(s); return nil }
func (v *stringValue) String() string     { return string(*v) }

type boolValue bool

func (v *boolValue) Set(s string) error {
	b, err := strconv.ParseBool(s)
	if err != nil {
		return errors.New("it takes no value")
	}
	*v = boolValue(b)
	return nil
}
func (v *boolValue) String() string   { return strconv.FormatBool(bool(*v)) }
func (v *boolValue) IsBoolFlag() bool { return true }

type intValue struct{ n, low, high int }

func (v *intValue) Set(s string) error {
	n, err := strconv.Atoi(s)
	if err != nil || n < v.low || n > v.high {
		return fmt.Errorf("it takes a number from %d to %d", v.low, v.high)
	}
	v.n = n
	return nil
}
func (v *intValue) String() string { return strconv.Itoa(v.n) }

type choiceValue struct {
	s       string
	choices []string
}

func (v *choiceValue) Set(s string) error {
	for _, c := range v.choices {
		if s == c {
			v.s = s
			return nil
		}
	}
	return errors.New("it takes " + orList(v.choices))
}
func (v *choiceValue) String() string { return v.s }

// orList joins words as "a, b or c".
func orList(words []string) string {
	if len(words) < 2 {
		return strings.Join(words, "")
	}
	last := len(words) - 1
	return strings.Join(words[:last], ", ") + " or " + words[last]
}
