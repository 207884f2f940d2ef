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

// A survey looks at a lower directory before it is mounted, so that what could not
// be opened, or not be seen, is found before and not by whoever opens it.
type survey struct {
	lower       string
	key         ecryptfs.Signature // of the files
	name        ecryptfs.Signature // of their names; empty where they are not encrypted
	passthrough bool
	lost        string // the path of a record that should be there if names are encrypted

	entries    int
	encrypted  int    // names
	sample     []byte // the wrapped key of some file
	sampleOf   string
	damaged    int    // files whose header is damaged
	damagedOne string // one of them
	foreignOne error  // the first file of another key, where its name was encrypted here
	partial    bool   // a limit was reached

	device   uint64 // of lower; what is mounted below it is not seen through eCryptfs
	deadline time.Time
}

// A survey ends after so many entries, or so long: the headers of a large
// directory are all over its disk.
const (
	surveyEntries = 100_000
	surveyTime    = 20 * time.Second
)

// errEnough ends a survey that found nothing wrong.
var errEnough = errors.New("enough")

// run looks at everything in the directory. Its error names the first entry that
// would be a trap.
func (s *survey) run() error {
	var st unix.Stat_t
	if err := unix.Stat(s.lower, &st); err != nil {
		return fmt.Errorf("look at %s: %w", s.lower, err)
	}
	s.device, s.deadline = st.Dev, time.Now().Add(surveyTime)
	err := filepath.WalkDir(s.lower, s.visit)
	if errors.Is(err, errEnough) {
		s.partial, err = true, nil
	}
	if err == nil && s.sample == nil {
		err = s.foreignOne
	}
	return err
}

func (s *survey) visit(path string, entry fs.DirEntry, err error) error {
	if err != nil {
		return fmt.Errorf("look at what is in %s: %w", s.lower, err)
	}
	if path == s.lower {
		return nil
	}
	if s.entries++; s.entries > surveyEntries || time.Now().After(s.deadline) {
		return errEnough
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

func (s *survey) checkName(path string) error {
	signature, err := ecryptfs.ParseName(filepath.Base(path))
	switch {
	case errors.Is(err, ecryptfs.ErrPlainName) && s.name == "":
		return nil
	case errors.Is(err, ecryptfs.ErrPlainName):
		return cli.WithHint(fmt.Errorf("%s has a name that is not encrypted, and would not be seen once %s is mounted with encrypted file names", path, s.lower),
			"move such files away, mount, and copy them back; or mount with -o ecryptfs_enable_filename_crypto=n")
	case s.lost != "":
		return cli.WithHint(fmt.Errorf("%s has an encrypted name, and %s, which has the passphrase for it, is not there", path, s.lost),
			"put a copy of it back; where there is none, the names are lost, and -o ecryptfs_enable_filename_crypto=n gives the files under their encrypted names")
	case s.name == "": // its name stays as it is
		s.encrypted++
		return nil
	case err != nil:
		s.spoilt(path)
		return nil
	case signature != s.name:
		return cli.WithHint(fmt.Errorf("the name of %s was encrypted with another passphrase (%s, and the one of %s is %s)",
			path, signature, s.lower+recordSuffix, s.name), "put the "+filepath.Base(s.lower)+recordSuffix+" back that the directory was set up with")
	}
	s.encrypted++
	return nil
}

func (s *survey) checkFile(path string) error {
	b, err := readPrefix(path)
	if err != nil {
		return fmt.Errorf("look at a file: %w", err)
	}
	if len(b) == 0 { // eCryptfs gives it a header when it is opened
		return nil
	}
	h, err := ecryptfs.ParseHeader(b)
	if errors.Is(err, ecryptfs.ErrNotEncrypted) {
		if s.passthrough {
			return nil
		}
		// What has an encrypted name was made here, and what is all zero lost its
		// contents with the power.
		if s.name != "" || len(bytes.Trim(b, "\x00")) == 0 {
			s.spoilt(path)
			return nil
		}
		return cli.WithHint(fmt.Errorf("%s is not encrypted, and could not be opened once %s is mounted", path, s.lower),
			"move such files away, mount, and copy them back: that encrypts them; or look at them, read-only, with -o ecryptfs_passthrough")
	}
	if err != nil {
		s.spoilt(path)
		return nil
	}
	wrapped := h.For(s.key)
	switch {
	case wrapped == nil && s.name == "":
		return s.foreign(path, h)
	case wrapped == nil: // damaged, if others are of this key
		if s.foreignOne == nil {
			s.foreignOne = s.foreign(path, h)
		}
		s.spoilt(path)
		return nil
	}
	if s.sample == nil {
		s.sample, s.sampleOf = wrapped, path
	}
	return nil
}

// spoilt remembers a file that nothing can open any more. It keeps nobody from the
// others.
func (s *survey) spoilt(path string) {
	if s.damaged++; s.damaged == 1 {
		s.damagedOne = path
	}
}

// foreign is the error for a file of another key.
func (s *survey) foreign(path string, h *ecryptfs.Header) error {
	var keys []string
	for _, k := range h.Keys {
		kind := "key"
		if k.Passphrase {
			kind = "passphrase"
		}
		keys = append(keys, fmt.Sprintf("the %s %s", kind, k.Signature))
	}
	return cli.WithHint(fmt.Errorf("%s was encrypted for %s, and this key is %s: it could not be opened", path, strings.Join(keys, " and "), s.key),
		"name the key file that it was encrypted for: -key FILE; tpmctl pub FILE | openssl pkey -pubin -outform der | sha256sum begins with its number")
}

// readPrefix reads the beginning of a regular file; nothing of what took its place
// meanwhile.
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
