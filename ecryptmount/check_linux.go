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

// check gets hold of kernel and TPM, and proves that what is in the directory can
// be opened.
func (s *session) check() (err error) {
	s.guardPassthrough()
	if s.module, err = loadModule(); err != nil {
		return err
	}
	if err := s.openDevices(); err != nil {
		return err
	}
	if err := s.takeOver(); err != nil {
		return err
	}
	done := s.env.Progress("asking the TPM")
	defer done()
	if err := s.chip.open(); err != nil {
		return err
	}
	if err := s.openNames(); err != nil {
		return err
	}
	if !s.adopted { // what it hides was looked at when it was mounted
		if err := s.survey(); err != nil {
			return err
		}
	}
	done()
	return s.checkWait()
}

// guardPassthrough has a directory with passthrough mounted read-only, unless rw was
// said. With passthrough the kernel gives the bytes of the lower file not only
// where that is not encrypted, but wherever it has no key: a program would write
// plain text into the middle of a file that is encrypted.
func (s *session) guardPassthrough() {
	if !s.settings.passthrough || s.o.mount.generic["ro"] {
		return
	}
	if s.o.mount.writable {
		s.env.Notef("with ecryptfs_passthrough, whoever writes to a file whose key the kernel does not get (another user; no ecryptmount) destroys it")
		return
	}
	s.o.mount.setGeneric("ro")
	s.env.Notef("%s is mounted read-only because of ecryptfs_passthrough; -o rw permits writing, see the help", s.point)
}

// openNames unwraps the passphrase for file names, or makes a new one; without
// names to encrypt it tries the TPM with something else.
func (s *session) openNames() error {
	set := s.settings
	if r := set.record; r != nil && r.FilenameCrypto {
		passphrase, err := s.chip.unwrap(r.FilenamePassphrase)
		if err != nil {
			err = fmt.Errorf("unwrap the passphrase for file names in %s: %w", set.recordPath, err)
			if errors.Is(err, rsa.ErrDecryption) {
				err = cli.WithHint(err, "the file is damaged: put a copy of it back")
			}
			return err
		}
		defer clear(passphrase)
		s.nameToken, err = ecryptfs.NameToken(passphrase)
		return err
	}
	if err := s.chip.roundTrip(); err != nil || !set.names || s.adopted {
		return err
	}
	return s.newNames()
}

// newNames makes the passphrase for the file names of a new directory.
func (s *session) newNames() error {
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
	s.settings.record = s.makeRecord(wrapped)
	s.newRecord = true
	return nil
}

func (s *session) makeRecord(passphrase []byte) *record {
	return &record{
		Version: recordVersion, Key: s.fingerprint, Cipher: cipher, KeyBytes: s.settings.keyBytes,
		FilenameCrypto: passphrase != nil, FilenamePassphrase: passphrase, Passthrough: s.settings.passthrough,
	}
}

// survey looks at what is in the directory.
func (s *session) survey() error {
	look := &survey{lower: s.lower, key: s.token.Signature, passthrough: s.settings.passthrough}
	if s.nameToken != nil {
		look.name = s.nameToken.Signature
	}
	if s.newRecord { // any name that is encrypted was so with a passphrase that is gone
		look.lost = s.settings.recordPath
	}
	if err := look.run(); err != nil {
		return err
	}
	if err := s.trySample(look); err != nil {
		return err
	}
	if look.partial {
		s.env.Notef("%s is large: only %s in it were looked at before it is mounted", s.lower, cli.Counted(look.entries, "name"))
	}
	if look.damaged > 0 {
		s.env.Notef("%s cannot be opened any more, because what eCryptfs keeps in it is damaged: %s", cli.Counted(look.damaged, "file"), look.damagedOne)
	}
	switch {
	case s.nameToken == nil && look.encrypted > 0:
		s.env.Notef("%s has %s; without their passphrase they are shown as they are", s.lower, cli.Counted(look.encrypted, "encrypted file name"))
	case s.settings.record == nil:
		s.settings.record, s.newRecord = s.makeRecord(nil), true
	}
	return nil
}

// trySample has the TPM open the key of one file. That it can open keys was shown
// before, so one that it cannot is damaged.
func (s *session) trySample(look *survey) error {
	if look.sample == nil {
		return nil
	}
	err := s.chip.tryFile(look.sampleOf, look.sample)
	if errors.Is(err, errBadFileKey) {
		look.spoilt(look.sampleOf)
		return nil
	}
	return err
}

// checkWait compares how long the TPM takes with how long the kernel waits, and
// loads the module anew with a longer wait where that is possible.
func (s *session) checkWait() error {
	each := s.chip.took()
	if !s.module.tooSlow(each) {
		return nil
	}
	if !s.module.known && !s.adopted {
		s.closeDevices()
		err := s.module.reload()
		if opened := s.openDevices(); opened != nil {
			return errors.Join(opened, err)
		}
		if err == nil && !s.module.tooSlow(each) {
			s.env.Notef("the TPM takes %.1f s to unwrap the key of a file; the module ecryptfs was loaded anew to wait for up to %v", each.Seconds(), s.module.wait)
			return nil
		}
	}
	s.env.Notef("%s", s.module.advice(each))
	return nil
}
