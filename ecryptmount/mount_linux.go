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

// A session is one run of the command for one directory.
type session struct {
	env *cli.Env
	o   *options

	lower, point string // absolute, without symbolic links

	lowerDir, pointDir *directory // open until they are mounted; may be the same
	parentDir          *directory // contains DIR and its settings file

	users       []int // who may open files
	file        blob.Key
	fingerprint string // of the public key
	token       *ecryptfs.Token
	settings    *settings
	nameToken   *ecryptfs.Token // nil if names are not encrypted
	newFile     bool            // this mount writes the settings file

	module  *module
	devices []*ecryptfs.Device
	chip    *chip
	server  *ecryptfs.Server
	resumed bool // the mount of a killed ecryptmount is served again
	back    *background
}

// mount does everything that can fail before it mounts, so that the files in a mounted directory
// can be opened.
func mount(env *cli.Env, o *options, back *background) (err error) {
	s := &session{env: env, o: o, back: back}
	defer func() {
		if err != nil && back.detached { // standard error is closed
			s.logf("error: %v", err)
		}
	}()
	_ = unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0) // no core dump may contain secrets or file keys
	closeInherited()
	if os.Geteuid() != 0 {
		return cli.WithHint(errors.New("only root may mount eCryptfs directories"), "run it with sudo, or as root")
	}
	defer s.release()
	if err := s.prepare(); err != nil {
		return err
	}
	s.chip = newChip(env, o, s.file)
	defer s.closeDevices()
	unwatch := cli.OnSignal(s.chip.close) // a key that stays loaded takes up space in the chip
	defer unwatch()
	defer s.chip.close() // before unwatch: a signal waits for it
	if err := s.check(); err != nil {
		return err
	}
	signals := make(chan os.Signal, 4)
	cli.NotifyEnd(signals)
	signal.Notify(signals, os.Interrupt) // a shell script may have a background job ignore it
	unwatch()
	return s.serve(signals)
}

// prepare does what needs neither the kernel nor the TPM.
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
	r, err := readSettingsFile(s.parentDir, filepath.Base(s.lower)+settingsSuffix, owner)
	if err != nil {
		return err
	}
	if s.settings, err = resolveSettings(s.env, s.o, s.lower, r, *s.o.key, s.fingerprint); err != nil {
		return err
	}
	return checkKey(s.file, *s.o.key, s.settings)
}

// resolvePaths opens the directories.
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
		return fmt.Errorf("mount: %s is inside %s, so the mount would contain itself", s.point, s.lower)
	case strings.HasPrefix(s.lower, s.point+"/"):
		return cli.WithHint(fmt.Errorf("mount: %s is inside %s, which the mount would hide", s.lower, s.point),
			"put one beside the other, or mount DIR over itself")
	}
	if s.parentDir, err = openDir(filepath.Dir(s.lower)); err != nil {
		return fmt.Errorf("mount %s: open the directory that it is in: %w", s.lower, err)
	}
	return s.releaseMounted()
}

// releaseMounted closes directories that a killed ecryptmount left mounted. They could not be
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

// recheck checks that the directories are still where they were.
func (s *session) recheck() error {
	owner := s.lowerDir.stat.Uid
	for _, d := range []*directory{s.lowerDir, s.pointDir, s.parentDir} {
		if err := d.recheck(); err != nil {
			return fmt.Errorf("mount %s: %w", s.point, err)
		}
	}
	if s.lowerDir.stat.Uid != owner { // the owner decides who may open files
		return fmt.Errorf("mount %s: %s got another owner while the TPM was asked", s.point, s.lower)
	}
	return nil
}

// release closes the directories.
func (s *session) release() {
	for _, d := range []*directory{s.lowerDir, s.pointDir, s.parentDir} {
		d.release()
	}
}
