package ecryptfs

import (
	"errors"
	"strings"
)

// FSType is the name of eCryptfs in a mount table.
const FSType = "ecryptfs"

// A Mount is a line of a mount table.
type Mount struct {
	Device string // identifies the file system: "0:45"
	Point  string
	FSType string
	Source string // for eCryptfs, the lower directory
	super  string // options of the file system
}

// Option returns the value of a file system option such as "ecryptfs_sig", empty if it has none.
func (m *Mount) Option(name string) string {
	for option := range strings.SplitSeq(m.super, ",") {
		if key, value, _ := strings.Cut(option, "="); key == name {
			return value
		}
	}
	return ""
}

// ParseMounts parses a mount table: see proc_pid_mountinfo(5). Later mounts hide earlier ones at
// the same point.
func ParseMounts(table string) ([]Mount, error) {
	var all []Mount
	for line := range strings.Lines(table) {
		line = strings.TrimSuffix(line, "\n")
		before, behind, ok := strings.Cut(line, " - ")
		first, last := strings.Split(before, " "), strings.Split(behind, " ")
		if !ok || len(first) < 6 || len(last) < 3 {
			return nil, errors.New("unknown format of a line in the mount table")
		}
		all = append(all, Mount{
			Device: first[2], Point: unescape(first[4]), FSType: last[0], Source: unescape(last[1]), super: last[2],
		})
	}
	return all, nil
}

// MountAt returns the last mount at a point, nil if there is none.
func MountAt(all []Mount, point string) *Mount {
	for i := len(all) - 1; i >= 0; i-- {
		if all[i].Point == point {
			return &all[i]
		}
	}
	return nil
}

// unescape replaces the kernel's escapes for blanks: a backslash and three octal digits.
func unescape(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) && isOctal(s[i+1:i+4]) {
			b.WriteByte((s[i+1]-'0')<<6 | (s[i+2]-'0')<<3 | (s[i+3] - '0'))
			i += 3
			continue
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

func isOctal(digits string) bool {
	return digits[0] <= '3' && strings.Trim(digits, "01234567") == ""
}
