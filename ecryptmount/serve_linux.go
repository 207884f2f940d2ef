package main

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"maclef/internal/cli"
	"maclef/internal/ecryptfs"
)

// serve mounts the directory and answers for it until it is unmounted.
func (s *session) serve(signals <-chan os.Signal) (err error) {
	_ = unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0) // file keys belong in no core dump
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
	if s.nameToken != nil {
		s.nameToken.Clear()
	}
	if err != nil {
		return err
	}
	s.announce()
	s.await(signals, served)
	wrapped, unwrapped := s.server.Counts()
	s.say("%s wrapped, %s unwrapped by the TPM", counted(wrapped, "file key"), counted(unwrapped, "file key"))
	return nil
}

// mountNow keeps the record and mounts.
func (s *session) mountNow() error {
	if s.newRecord {
		if err := s.settings.record.write(s.env, s.settings.recordPath); err != nil {
			return err
		}
	}
	tokens := []*ecryptfs.Token{s.token}
	if s.nameToken != nil {
		tokens = append(tokens, s.nameToken)
	}
	err := ecryptfs.WithTokens(tokens, func() error {
		return unix.Mount(s.lower, s.point, ecryptfs.FSType, s.mountFlags(), s.mountData())
	})
	if err != nil {
		if s.newRecord {
			s.settings.record.remove(s.settings.recordPath)
		}
		return mountError(s.point, err)
	}
	return nil
}

func mountError(point string, err error) error {
	err = fmt.Errorf("mount %s: %w", point, err)
	switch {
	case errors.Is(err, unix.EPERM):
		return cli.WithHint(err, "mounting takes the capability CAP_SYS_ADMIN, which root in a container often has not")
	case errors.Is(err, unix.EINVAL):
		return cli.WithHint(err, "the kernel says more: dmesg | tail")
	}
	return err
}

// mountFlags are the options that every file system has.
func (s *session) mountFlags() uintptr {
	bits := map[string]uintptr{
		"ro": unix.MS_RDONLY, "nosuid": unix.MS_NOSUID, "nodev": unix.MS_NODEV,
		"noexec": unix.MS_NOEXEC, "noatime": unix.MS_NOATIME,
	}
	var flags uintptr
	for option := range s.o.mount.generic {
		flags |= bits[option]
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
