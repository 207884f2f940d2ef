package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"

	"maclef/ecryptmount/internal/ecryptfs"
	"maclef/internal/cli"
	"maclef/internal/printable"
)

// serve mounts the directory and answers for it until it is unmounted.
func (s *session) serve(signals <-chan os.Signal) (err error) {
	s.server = ecryptfs.NewServer(s.token.Signature, s.chip.wrap, s.chip.unwrap, func(err error) { s.say("error: %v", err) })
	stop, served := make(chan struct{}), make(chan struct{})
	var failed error
	go func() {
		defer close(served)
		failed = s.server.Serve(s.devices, stop)
	}()
	defer func() {
		close(stop)
		<-served
		err = errors.Join(err, failed)
	}()
	if err := os.Chdir("/"); err != nil { // or it would keep a directory busy
		return err
	}
	if !s.adopted {
		err = s.mountNow()
	}
	s.release() // or they would keep busy what the directories are in
	if s.nameToken != nil {
		s.nameToken.Clear()
	}
	if err != nil {
		return err
	}
	s.announce()
	s.await(signals, served)
	wrapped, unwrapped := s.server.Counts()
	s.say("%s wrapped, %s unwrapped by the TPM", cli.Counted(wrapped, "file key"), cli.Counted(unwrapped, "file key"))
	return nil
}

// mountNow keeps the record and mounts.
func (s *session) mountNow() error {
	if err := s.hold(); err != nil {
		return err
	}
	below, err := s.lowerDir.statfs()
	if err != nil {
		return err
	}
	flags := s.mountFlags(uintptr(below.Flags), s.lowerDir.stat.Uid)
	if flags&unix.MS_RDONLY != 0 && s.nameToken == nil {
		s.newRecord = false // looking at what is there decides nothing for later
	}
	name := filepath.Base(s.settings.recordPath)
	if s.newRecord {
		if err := writeRecord(s.beside, name, s.settings.record); err != nil {
			return err
		}
	}
	tokens := []*ecryptfs.Token{s.token}
	if s.nameToken != nil {
		tokens = append(tokens, s.nameToken)
	}
	err = ecryptfs.WithTokens(tokens, func() error { return s.attach(flags) })
	if err != nil && s.newRecord { // nothing was mounted with it
		_ = unix.Unlinkat(s.beside.fd, name, 0)
	}
	return err
}

// mountFlags are the options that every file system has. What the file system
// below denies stays denied: below is its mount flags. And who owns the directory
// can write to the files in it from below, so that only root's have rights and
// devices in them, unless -o says so.
func (s *session) mountFlags(below uintptr, owner uint32) uintptr {
	bits := map[string]uintptr{
		"ro": unix.MS_RDONLY, "nosuid": unix.MS_NOSUID, "nodev": unix.MS_NODEV,
		"noexec": unix.MS_NOEXEC, "noatime": unix.MS_NOATIME,
	}
	var flags uintptr
	for option := range s.o.mount.generic {
		flags |= bits[option]
	}
	// Here the numbers of statfs(2) are those of mount(2).
	flags |= below & (unix.MS_RDONLY | unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC)
	if owner != 0 {
		for _, option := range []string{"suid", "dev"} {
			if !slices.Contains(s.o.mount.text, option) {
				flags |= bits["no"+option]
			}
		}
	}
	return flags
}

// mountData are eCryptfs's own options. Without mount_auth_tok_only the kernel
// would take tokens from anybody's keyring.
func (s *session) mountData() string {
	data := fmt.Sprintf("ecryptfs_mount_auth_tok_only,ecryptfs_sig=%s,ecryptfs_cipher=%s,ecryptfs_key_bytes=%d",
		s.token.Signature, cipher, s.settings.keyBytes)
	if s.nameToken != nil {
		data += ",ecryptfs_fnek_sig=" + string(s.nameToken.Signature)
	}
	if s.settings.passthrough {
		data += ",ecryptfs_passthrough"
	}
	return data
}

// announce tells that the directory can be used, and goes to the background where
// that was asked for.
func (s *session) announce() {
	if s.newRecord && !s.adopted {
		s.env.Notef("%s is new: keep a copy of it, and of %s", s.settings.recordPath, *s.o.key)
	}
	s.say("%s is mounted, for %s; umount %s ends that", s.point, userNames(s.users), s.point)
	s.back.detach()
}

// say prints a line on standard error, or wherever messages go.
func (s *session) say(format string, args ...any) {
	fmt.Fprintf(s.env.Stderr, "ecryptmount: %s\n", printable.Line(fmt.Sprintf(format, args...)))
}
