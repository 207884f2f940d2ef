package main

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"maclef/blob"
	"maclef/internal/cli"
	"maclef/internal/ecryptfs"
)

// A session is one directory, from the command line to its end.
type session struct {
	env *cli.Env
	o   *options

	lower, point string // absolute, without symbolic links
	users        []int  // whose requests are answered
	file         *blob.Key
	token        *ecryptfs.Token
	settings     *settings
	nameToken    *ecryptfs.Token // nil where names are not encrypted
	newRecord    bool            // the record was made by this mount

	module  *module
	devices []*ecryptfs.Device
	chip    *chip
	server  *ecryptfs.Server
	adopted bool // a killed ecryptmount had mounted it
	back    *background
}

// mount does everything that can fail before it mounts, so that a directory that
// was mounted can be opened.
func mount(env *cli.Env, o *options, back *background) (err error) {
	s := &session{env: env, o: o, back: back}
	defer func() {
		if err != nil && back.detached { // standard error is gone
			s.say("error: %v", err)
		}
	}()
	closeInherited()
	if os.Geteuid() != 0 {
		return cli.WithHint(errors.New("only root may mount eCryptfs directories"), "run it with sudo, or as root")
	}
	if err := s.prepare(); err != nil {
		return err
	}
	s.chip = newChip(env, o, s.file)
	defer s.chip.close()
	defer s.closeDevices()
	unwatch := cli.OnSignal(s.chip.close) // a key that stays loaded takes a place in the chip
	defer unwatch()
	if err := s.check(); err != nil {
		return err
	}
	signals := make(chan os.Signal, 4)
	cli.NotifyEnd(signals)
	signal.Notify(signals, os.Interrupt) // also where a script's shell had a background job ignore it
	unwatch()
	return s.serve(signals)
}

// say prints a line on standard error, or wherever messages go.
func (s *session) say(format string, args ...any) {
	fmt.Fprintf(s.env.Stderr, "ecryptmount: "+format+"\n", args...)
}

// prepare finds out what is wanted, as far as neither kernel nor TPM are needed.
func (s *session) prepare() (err error) {
	if err := s.resolvePaths(); err != nil {
		return err
	}
	if s.users, err = s.o.users.ids(ownerOf(s.lower)); err != nil {
		return err
	}
	if s.file, err = s.env.ReadKey(*s.o.key); err != nil {
		return err
	}
	if s.token, err = ecryptfs.KeyToken(s.file.PublicKey()); err != nil {
		return err
	}
	fingerprint, err := ecryptfs.Fingerprint(s.file.PublicKey())
	if err != nil {
		return err
	}
	if s.settings, err = settle(s.env, s.o, s.lower, *s.o.key, fingerprint); err != nil {
		return err
	}
	return checkKey(s.file, *s.o.key, s.settings)
}

func (s *session) resolvePaths() (err error) {
	if s.lower, err = resolveDir(s.o.dir); err != nil {
		return err
	}
	s.point = s.lower
	if s.o.point != "" {
		if s.point, err = resolveDir(s.o.point); err != nil {
			return err
		}
	}
	if s.lower == "/" || s.point == "/" {
		return errors.New("mount: / cannot be an eCryptfs directory; name another one")
	}
	if s.point != s.lower && strings.HasPrefix(s.point, s.lower+"/") {
		return fmt.Errorf("mount: %s is inside %s, which it would show", s.point, s.lower)
	}
	return nil
}

// resolveDir is the path of a directory, as mount tables have it.
func resolveDir(name string) (string, error) {
	path, err := filepath.Abs(name)
	if err == nil {
		path, err = filepath.EvalSymlinks(path)
	}
	if err != nil {
		return "", cli.WithHint(fmt.Errorf("mount %s: %w", name, withoutPath(err)), "make the directory first: mkdir "+name)
	}
	info, err := os.Stat(path)
	if err != nil {
		return "", fmt.Errorf("mount %s: %w", name, withoutPath(err))
	}
	if !info.IsDir() {
		return "", fmt.Errorf("mount %s: it is not a directory", name)
	}
	return path, nil
}

func withoutPath(err error) error {
	var path *os.PathError
	if errors.As(err, &path) {
		return path.Err
	}
	return err
}

func ownerOf(dir string) int {
	var st unix.Stat_t
	if err := unix.Stat(dir, &st); err != nil {
		return 0
	}
	return int(st.Uid)
}
