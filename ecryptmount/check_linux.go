package main

import (
	"crypto/rand"
	"crypto/rsa"
	"encoding/hex"
	"errors"
	"fmt"

	"maclef/ecryptmount/internal/ecryptfs"
	"maclef/internal/cli"
)

// check opens the kernel's device and the TPM, and checks that the files in the directory can be
// opened.
func (s *session) check() (err error) {
	s.limitPassthrough()
	if s.module, err = loadModule(); err != nil {
		return err
	}
	if err := s.openDevices(); err != nil {
		return err
	}
	if err := s.handleStaleMounts(); err != nil {
		return err
	}
	done := s.env.Progress("asking the TPM")
	defer done()
	if err := s.chip.open(); err != nil {
		return err
	}
	if err := s.loadNameToken(); err != nil {
		return err
	}
	if !s.resumed { // a mounted directory hides its files, and they were scanned when it was mounted
		if err := s.scan(); err != nil {
			return err
		}
	}
	done()
	return s.checkWait()
}

// limitPassthrough mounts a directory with passthrough read-only unless rw was given. With
// passthrough the kernel shows the bytes of the lower file whenever it has no key. A program could
// then write plain text into the middle of an encrypted file.
func (s *session) limitPassthrough() {
	if !s.settings.passthrough || s.o.mount.generic["ro"] {
		return
	}
	if s.o.mount.writable {
		s.env.Notef("with ecryptfs_passthrough, whoever writes to a file whose key the kernel does not get (another user; no ecryptmount) destroys it")
		return
	}
	s.o.mount.setGeneric("ro")
	s.env.Notef("%s is mounted read-only because of ecryptfs_passthrough; -o rw permits writing (see -h)", s.point)
}

// loadNameToken unwraps the passphrase for file names, or makes a new one. Without one it tests the
// key with a random message.
func (s *session) loadNameToken() error {
	set := s.settings
	if r := set.file; r != nil && r.FilenameCrypto {
		passphrase, err := s.chip.unwrap(r.FilenamePassphrase)
		if err != nil {
			err = fmt.Errorf("unwrap the passphrase for file names in %s: %w", set.path, err)
			if errors.Is(err, rsa.ErrDecryption) {
				err = cli.WithHint(err, "the file is damaged: restore a copy of it")
			}
			return err
		}
		defer clear(passphrase)
		s.nameToken, err = ecryptfs.NameToken(passphrase)
		return err
	}
	if err := s.chip.roundTrip(); err != nil || !set.names || s.resumed {
		return err
	}
	return s.newNameToken()
}

// newNameToken makes the passphrase for the file names of a new directory.
func (s *session) newNameToken() error {
	var random [passphraseSize / 2]byte
	if _, err := rand.Read(random[:]); err != nil {
		return err
	}
	passphrase := hex.AppendEncode(nil, random[:])
	defer clear(passphrase)
	clear(random[:])
	token, err := ecryptfs.NameToken(passphrase)
	if err != nil {
		return err
	}
	s.nameToken = token
	wrapped, err := s.chip.wrap(passphrase)
	if err != nil {
		return fmt.Errorf("wrap the passphrase for file names: %w", err)
	}
	s.settings.file = s.makeSettingsFile(wrapped)
	s.newFile = true
	return nil
}

func (s *session) makeSettingsFile(passphrase []byte) *settingsFile {
	return &settingsFile{
		Version: settingsVersion, Key: s.fingerprint, Cipher: cipher, KeyBytes: s.settings.keyBytes,
		FilenameCrypto: passphrase != nil, FilenamePassphrase: passphrase, Passthrough: s.settings.passthrough,
	}
}

// scan checks the files in the directory.
func (s *session) scan() error {
	look := &dirScan{lower: s.lower, key: s.token.Signature, passthrough: s.settings.passthrough}
	if s.nameToken != nil {
		look.name = s.nameToken.Signature
	}
	if s.newFile { // any encrypted name in it belongs to a passphrase that is lost
		look.lost = s.settings.path
	}
	if err := look.run(); err != nil {
		return err
	}
	if err := s.trySample(look); err != nil {
		return err
	}
	if look.partial {
		s.env.Notef("%s is large: only %s in it were checked before mounting", s.lower, cli.Counted(look.entries, "name"))
	}
	if look.damaged > 0 {
		s.env.Notef("%s cannot be opened, because the eCryptfs header is damaged: %s", cli.Counted(look.damaged, "file"), look.firstDamaged)
	}
	switch {
	case s.nameToken == nil && look.encrypted > 0:
		s.env.Notef("%s has %s; without their passphrase they are shown as they are", s.lower, cli.Counted(look.encrypted, "encrypted file name"))
	case s.settings.file == nil:
		s.settings.file, s.newFile = s.makeSettingsFile(nil), true
	}
	return nil
}

// trySample unwraps the key of one file with the TPM. The TPM's key works, as loadNameToken has
// shown, so a file key that does not open is damaged.
func (s *session) trySample(look *dirScan) error {
	if look.sample == nil {
		return nil
	}
	err := s.chip.tryFileKey(look.samplePath, look.sample)
	if errors.Is(err, errBadFileKey) {
		look.addDamaged(look.samplePath)
		return nil
	}
	return err
}

// checkWait compares the time that the TPM takes with the time that the kernel waits. If that is
// too short it reloads the module with a longer wait, where it can.
func (s *session) checkWait() error {
	each := s.chip.slowestUnwrap()
	if !s.module.tooSlow(each) {
		return nil
	}
	if !s.module.known && !s.resumed {
		s.closeDevices()
		err := s.module.reload()
		if opened := s.openDevices(); opened != nil {
			return errors.Join(opened, err)
		}
		if err == nil && !s.module.tooSlow(each) {
			s.env.Notef("the TPM takes %.1f s to unwrap the key of a file; the module ecryptfs was reloaded and now waits for up to %v", each.Seconds(), s.module.wait)
			return nil
		}
	}
	s.env.Notef("%s", s.module.advice(each))
	return nil
}
