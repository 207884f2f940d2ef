//go:build !linux

package main

import (
	"errors"
	"io"

	"maclef/internal/cli"
)

var errNotLinux = errors.New("eCryptfs is a file system of Linux; this system has none")

func wantsFork([]string) bool { return false }

func startBackground([]string) (int, error) { return 0, errNotLinux }

type background struct{}

func newBackground(*outlet) *background { return nil }

type outlet struct{ w io.Writer }

func (o *outlet) Write(p []byte) (int, error) { return o.w.Write(p) }

func mount(*cli.Env, *options, *background) error { return errNotLinux }
