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

// serve mounts the directory and answers the kernel until it is unmounted.
func (s *session) serve(signals <-chan os.Signal) (err error) {
	s.server = ecryptfs.NewServer(s.token.Signature, s.chip.wrap, s.chip.unwrap, func(err error) { s.logf("error: %v", err) })
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
	if err := os.Chdir("/"); err != nil { // the working directory must not keep a mount busy
		return err
	}
	if !s.resumed {
		err = s.mountNow()
	}
	s.release() // open directories must not keep a mount busy
	if s.nameToken != nil {
		s.nameToken.Clear()
	}
	if err != nil {
		return err
	}
	s.announce()
	s.waitForUnmount(signals, served)
	wrapped, unwrapped := s.server.Counts()
	s.logf("%s wrapped, %s unwrapped by the TPM", cli.Counted(wrapped, "file key"), cli.Counted(unwrapped, "file key"))
	return nil
}

// mountNow writes the settings file and mounts.
func (s *session) mountNow() error {
	if err := s.recheck(); err != nil {
		return err
	}
	below, err := s.lowerDir.statfs()
	if err != nil {
		return err
	}
	flags := s.mountFlags(uintptr(below.Flags), s.lowerDir.stat.Uid)
	if flags&unix.MS_RDONLY != 0 && s.nameToken == nil {
		s.newFile = false // a read-only look does not decide the settings
	}
	name := filepath.Base(s.settings.path)
	if s.newFile {
		if err := writeSettingsFile(s.parentDir, name, s.settings.file); err != nil {
			return err
		}
	}
	tokens := []*ecryptfs.Token{s.token}
	if s.nameToken != nil {
		tokens = append(tokens, s.nameToken)
	}
	err = ecryptfs.WithTokens(tokens, func() error { return s.attach(flags) })
	if err != nil && s.newFile { // nothing was mounted with it
		_ = unix.Unlinkat(s.parentDir.fd, name, 0)
	}
	return err
}

// mountFlags returns the flags for mount(2). It adds those of the file system below, whose flags
// below are. Only a directory of root has set-user-id files and devices, unless -o says otherwise:
// its owner can write to the lower files.
func (s *session) mountFlags(below uintptr, owner uint32) uintptr {
	bits := map[string]uintptr{
		"ro": unix.MS_RDONLY, "nosuid": unix.MS_NOSUID, "nodev": unix.MS_NODEV,
		"noexec": unix.MS_NOEXEC, "noatime": unix.MS_NOATIME,
	}
	var flags uintptr
	for option := range s.o.mount.generic {
		flags |= bits[option]
	}
	// These flags have the same numbers in statfs(2) and mount(2).
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

// mountData returns the options of eCryptfs. Without mount_auth_tok_only the kernel would take
// tokens from anybody's keyring.
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

// announce reports that the directory is mounted, and detaches a background process.
func (s *session) announce() {
	if s.newFile && !s.resumed {
		s.env.Notef("%s is new: keep a copy of it, and of %s", s.settings.path, *s.o.key)
	}
	s.logf("%s is mounted, for %s; umount %s ends that", s.point, userNames(s.users), s.point)
	s.back.detach()
}

// logf writes one line to standard error or, in the background, to syslog.
func (s *session) logf(format string, args ...any) {
	fmt.Fprintf(s.env.Stderr, "ecryptmount: %s\n", printable.Line(fmt.Sprintf(format, args...)))
}
