//go:build !linux

package main

import (
	"errors"
	"io"

	"maclef/internal/cli"
)

var errNotLinux = errors.New("eCryptfs exists only on Linux")

func wantsFork([]string) bool { return false }

func revealSecrets(args []string) []string { return args }

func startBackground([]string) (int, error) { return 0, errNotLinux }

type background struct{}

func newBackground(*messageWriter) *background { return nil }

type messageWriter struct{ w io.Writer }

func (o *messageWriter) Write(p []byte) (int, error) { return o.w.Write(p) }

func mount(*cli.Env, *options, *background) error { return errNotLinux }
