package main

import (
	"slices"
	"strconv"
	"strings"

	"maclef/internal/cli"
)

// optionForms lists the options of -o for messages.
var optionForms = []string{
	"ecryptfs_cipher=aes", "ecryptfs_key_bytes=16|24|32", "ecryptfs_passthrough[=y|n]",
	"ecryptfs_enable_filename_crypto=y|n", "ro", "rw", "nosuid", "suid", "nodev", "dev", "noexec", "noatime",
}

// genericOptions are options of every file system.
var genericOptions = []string{"ro", "nosuid", "nodev", "noexec", "noatime"}

// defaultOptions are accepted although they are the default.
var defaultOptions = []string{"rw", "suid", "dev", "exec", "atime", "defaults"}

const (
	cipher          = "aes"
	defaultKeyBytes = 32
)

// mountOptions is the value of -o, which may be given several times.
type mountOptions struct {
	keyBytes    int             // 0 if not given
	passthrough *bool           // nil if not given
	names       *bool           // encrypt file names; nil if not given
	generic     map[string]bool // those of genericOptions that were given
	writable    bool            // rw was given
	text        []string
}

func (m *mountOptions) String() string { return strings.Join(m.text, ",") }

// Set reads a list of options. Its error names the first unknown one.
func (m *mountOptions) Set(text string) error {
	for option := range strings.SplitSeq(text, ",") {
		if err := m.set(option); err != nil {
			return err
		}
		m.text = append(m.text, option)
	}
	return nil
}

func (m *mountOptions) set(option string) error {
	name, value, hasValue := strings.Cut(option, "=")
	switch name {
	case "ecryptfs_cipher":
		if value != cipher {
			return cli.Usagef("%s: only ecryptfs_cipher=aes is supported", option)
		}
		return nil
	case "ecryptfs_key_bytes":
		n, err := strconv.Atoi(value)
		if err != nil || n != 16 && n != 24 && n != 32 {
			return cli.Usagef("%s: AES has keys of 16, 24 or 32 bytes", option)
		}
		m.keyBytes = n
		return nil
	case "ecryptfs_passthrough":
		return setYesNo(&m.passthrough, option, value, hasValue)
	case "ecryptfs_enable_filename_crypto":
		return setYesNo(&m.names, option, value, hasValue)
	}
	switch {
	case slices.Contains(genericOptions, option):
		m.setGeneric(option)
	case slices.Contains(defaultOptions, option):
		delete(m.generic, "no"+option)
		if option == "rw" {
			delete(m.generic, "ro")
			m.writable = true
		}
	default:
		return &cli.UsageError{
			Text:   "unknown mount option \"" + option + "\"",
			Advice: "possible are " + strings.Join(optionForms, ", ") + "; -key names the key",
		}
	}
	return nil
}

func (m *mountOptions) setGeneric(option string) {
	if m.generic == nil {
		m.generic = make(map[string]bool)
	}
	m.generic[option] = true
}

// setYesNo reads y or n. A missing value means y.
func setYesNo(to **bool, option, value string, hasValue bool) error {
	yes := !hasValue || value == "y" || value == "yes"
	if !yes && value != "n" && value != "no" {
		return cli.Usagef("%s: it takes y or n", option)
	}
	*to = &yes
	return nil
}
