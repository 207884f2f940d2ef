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
	"maclef/ecryptmount/internal/ecryptfs"
	"maclef/internal/cli"
)

// A session is one directory, from the command line to its end.
type session struct {
	env *cli.Env
	o   *options

	lower, point string // absolute, without symbolic links

	lowerDir, pointDir *directory // the two, held until they are mounted; may be the same
	beside             *directory // where the record is

	users       []int // whose requests are answered
	file        blob.Key
	fingerprint string // of its public key
	token       *ecryptfs.Token
	settings    *settings
	nameToken   *ecryptfs.Token // nil where names are not encrypted
	newRecord   bool            // the record was made by this mount

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
	_ = unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0) // secrets and file keys belong in no core dump
	closeInherited()
	if os.Geteuid() != 0 {
		return cli.WithHint(errors.New("only root may mount eCryptfs directories"), "run it with sudo, or as root")
	}
	defer s.release()
	if err := s.prepare(); err != nil {
		return err
	}
	s.chip = newChip(env, o, s.file)
	defer s.chip.close()
	defer s.closeDevices()
	unwatch := cli.OnSignal(s.chip.close) // a key that stays loaded takes a place in the chip
	defer unwatch()
	defer s.chip.close() // while a signal waits for it
	if err := s.check(); err != nil {
		return err
	}
	signals := make(chan os.Signal, 4)
	cli.NotifyEnd(signals)
	signal.Notify(signals, os.Interrupt) // also where a script's shell had a background job ignore it
	unwatch()
	return s.serve(signals)
}

// prepare finds out what is wanted, as far as neither kernel nor TPM are needed.
func (s *session) prepare() (err error) {
	if err := s.resolvePaths(); err != nil {
		return err
	}
	owner := int(s.lowerDir.stat.Uid)
	if s.users, err = s.o.users.ids(owner); err != nil {
		return err
	}
	if s.file, err = s.env.ReadKey(s.o.keys); err != nil {
		return err
	}
	public, err := checkKind(s.file, *s.o.key)
	if err != nil {
		return err
	}
	if s.token, err = ecryptfs.KeyToken(public); err != nil {
		return err
	}
	if s.fingerprint, err = ecryptfs.Fingerprint(public); err != nil {
		return err
	}
	r, err := readRecord(s.beside, filepath.Base(s.lower)+recordSuffix, owner)
	if err != nil {
		return err
	}
	if s.settings, err = settle(s.env, s.o, s.lower, r, *s.o.key, s.fingerprint); err != nil {
		return err
	}
	return checkKey(s.file, *s.o.key, s.settings)
}

// resolvePaths finds the directories, and holds on to them.
func (s *session) resolvePaths() (err error) {
	if s.lowerDir, err = findDir(s.o.dir); err != nil {
		return err
	}
	s.pointDir = s.lowerDir
	if s.o.point != "" {
		if s.pointDir, err = findDir(s.o.point); err != nil {
			return err
		}
	}
	s.lower, s.point = s.lowerDir.path, s.pointDir.path
	switch {
	case s.lower == "/" || s.point == "/":
		return errors.New("mount: / cannot be an eCryptfs directory; name another one")
	case strings.HasPrefix(s.point, s.lower+"/"):
		return fmt.Errorf("mount: %s is inside %s, which it would show", s.point, s.lower)
	case strings.HasPrefix(s.lower, s.point+"/"):
		return cli.WithHint(fmt.Errorf("mount: %s is inside %s, and nobody could get at it while that is mounted over", s.lower, s.point),
			"put one beside the other, or mount DIR over itself")
	}
	if s.beside, err = openDir(filepath.Dir(s.lower)); err != nil {
		return fmt.Errorf("mount %s: open the directory that it is in: %w", s.lower, err)
	}
	return s.releaseMounted()
}

// releaseMounted lets go of what a killed ecryptmount left mounted: it could not be
// unmounted otherwise.
func (s *session) releaseMounted() error {
	for _, d := range []*directory{s.lowerDir, s.pointDir} {
		if d.fd < 0 {
			continue
		}
		st, err := d.statfs()
		if err != nil {
			return err
		}
		if st.Type == unix.ECRYPTFS_SUPER_MAGIC {
			d.release()
		}
	}
	return nil
}

// hold makes sure that the directories are where they were found.
func (s *session) hold() error {
	owner := s.lowerDir.stat.Uid
	for _, d := range []*directory{s.lowerDir, s.pointDir, s.beside} {
		if err := d.hold(); err != nil {
			return fmt.Errorf("mount %s: %w", s.point, err)
		}
	}
	if s.lowerDir.stat.Uid != owner { // who decided on the users whose requests are answered
		return fmt.Errorf("mount %s: %s got another owner while the TPM was asked", s.point, s.lower)
	}
	return nil
}

// release lets go of the directories.
func (s *session) release() {
	for _, d := range []*directory{s.lowerDir, s.pointDir, s.beside} {
		d.release()
	}
}
