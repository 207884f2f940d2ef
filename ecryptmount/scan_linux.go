package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"maclef/ecryptmount/internal/ecryptfs"
	"maclef/internal/cli"
)

// A dirScan checks a lower directory before it is mounted. It finds files that could not be opened,
// or whose names could not be read, before a user does.
type dirScan struct {
	lower       string
	key         ecryptfs.Signature // of the key that wraps the file keys
	name        ecryptfs.Signature // of the passphrase for names; empty if they are not encrypted
	passthrough bool
	lost        string // path of the settings file that encrypted names need and that is missing

	entries       int
	encrypted     int    // number of encrypted names
	sample        []byte // the wrapped key of one file
	samplePath    string
	damaged       int    // number of damaged files
	firstDamaged  string // path of the first
	firstOtherKey error  // for the first file of another key among those with encrypted names
	partial       bool   // a limit was reached

	device   uint64 // of lower; eCryptfs does not show what is mounted inside it
	deadline time.Time
}

// Limits of a scan: the headers of a large directory are spread over its disk.
const (
	maxScanEntries = 100_000
	maxScanTime    = 20 * time.Second
)

// errLimitReached ends a scan early. It is no failure.
var errLimitReached = errors.New("limit reached")

// run checks everything in the directory. It returns an error for the first file that must not be
// there.
func (s *dirScan) run() error {
	var st unix.Stat_t
	if err := unix.Stat(s.lower, &st); err != nil {
		return fmt.Errorf("scan %s: %w", s.lower, err)
	}
	s.device, s.deadline = st.Dev, time.Now().Add(maxScanTime)
	err := filepath.WalkDir(s.lower, s.visit)
	if errors.Is(err, errLimitReached) {
		s.partial, err = true, nil
	}
	if err == nil && s.sample == nil {
		err = s.firstOtherKey
	}
	return err
}

func (s *dirScan) visit(path string, entry fs.DirEntry, err error) error {
	if err != nil {
		return fmt.Errorf("scan %s: %w", s.lower, err)
	}
	if path == s.lower {
		return nil
	}
	if s.entries++; s.entries > maxScanEntries || time.Now().After(s.deadline) {
		return errLimitReached
	}
	if entry.IsDir() {
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil || st.Dev != s.device {
			return fs.SkipDir
		}
	}
	if path == filepath.Join(s.lower, "lost+found") && entry.IsDir() {
		return fs.SkipDir
	}
	if err := s.checkName(path); err != nil {
		return err
	}
	if entry.Type().IsRegular() {
		return s.checkFile(path)
	}
	return nil
}

func (s *dirScan) checkName(path string) error {
	signature, err := ecryptfs.ParseName(filepath.Base(path))
	switch {
	case errors.Is(err, ecryptfs.ErrPlainName) && s.name == "":
		return nil
	case errors.Is(err, ecryptfs.ErrPlainName):
		return cli.WithHint(fmt.Errorf("%s has a name that is not encrypted, and would be hidden when %s is mounted with encrypted file names", path, s.lower),
			"move such files away, mount, and copy them back; or mount with -o ecryptfs_enable_filename_crypto=n")
	case s.lost != "":
		return cli.WithHint(fmt.Errorf("%s has an encrypted name, and %s, which has the passphrase for it, is not there", path, s.lost),
			"restore a copy of it; if there is none, the names are lost, and -o ecryptfs_enable_filename_crypto=n shows the files under their encrypted names")
	case s.name == "": // it is shown as it is
		s.encrypted++
		return nil
	case err != nil:
		s.addDamaged(path)
		return nil
	case signature != s.name:
		return cli.WithHint(fmt.Errorf("the name of %s was encrypted with another passphrase (%s, and the one of %s is %s)",
			path, signature, s.lower+settingsSuffix, s.name), "restore the "+filepath.Base(s.lower)+settingsSuffix+" that the directory was set up with")
	}
	s.encrypted++
	return nil
}

func (s *dirScan) checkFile(path string) error {
	b, err := readPrefix(path)
	if err != nil {
		return fmt.Errorf("scan a file: %w", err)
	}
	if len(b) == 0 { // eCryptfs writes the header when it is opened
		return nil
	}
	h, err := ecryptfs.ParseHeader(b)
	if errors.Is(err, ecryptfs.ErrNotEncrypted) {
		if s.passthrough {
			return nil
		}
		// A file with an encrypted name was made by eCryptfs. One that is all zero lost its
		// contents when the power failed.
		if s.name != "" || len(bytes.Trim(b, "\x00")) == 0 {
			s.addDamaged(path)
			return nil
		}
		return cli.WithHint(fmt.Errorf("%s is not encrypted, and could not be opened when %s is mounted", path, s.lower),
			"move such files away, mount, and copy them back, which encrypts them; or read them with -o ecryptfs_passthrough")
	}
	if err != nil {
		s.addDamaged(path)
		return nil
	}
	wrapped := h.For(s.key)
	switch {
	case wrapped == nil && s.name == "":
		return s.otherKeyError(path, h)
	case wrapped == nil: // damaged, if other files belong to this key
		if s.firstOtherKey == nil {
			s.firstOtherKey = s.otherKeyError(path, h)
		}
		s.addDamaged(path)
		return nil
	}
	if s.sample == nil {
		s.sample, s.samplePath = wrapped, path
	}
	return nil
}

// addDamaged counts a file that cannot be opened any more. The other files can.
func (s *dirScan) addDamaged(path string) {
	if s.damaged++; s.damaged == 1 {
		s.firstDamaged = path
	}
}

// otherKeyError is the error for a file of another key.
func (s *dirScan) otherKeyError(path string, h *ecryptfs.Header) error {
	var keys []string
	for _, k := range h.Keys {
		kind := "key"
		if k.Passphrase {
			kind = "passphrase"
		}
		keys = append(keys, fmt.Sprintf("the %s %s", kind, k.Signature))
	}
	return cli.WithHint(fmt.Errorf("%s was encrypted for %s, and this key is %s: it could not be opened", path, strings.Join(keys, " and "), s.key),
		"give the key file that it was encrypted for (-key FILE): the output of tpmctl pub FILE | openssl pkey -pubin -outform der | sha256sum begins with that number")
}

// readPrefix reads the beginning of a regular file. It returns nothing if path is no regular file
// any more.
func readPrefix(path string) ([]byte, error) {
	file, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_NOATIME, 0)
	if errors.Is(err, unix.EPERM) {
		file, err = os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	}
	if err != nil {
		return nil, err
	}
	defer file.Close()
	if info, err := file.Stat(); err != nil || !info.Mode().IsRegular() {
		return nil, err
	}
	b := make([]byte, ecryptfs.HeaderPrefix)
	n, err := io.ReadFull(file, b)
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return nil, err
	}
	return b[:n], nil
}
