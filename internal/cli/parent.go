package cli

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// A ParentFlag is the flag -parent: the parent of a TPM 2.0 key.
type ParentFlag struct {
	Handle uint32 // 0 if not given
	// Movable is tpmkey.LoadOptions.MovableParent.
	Movable bool
}

// Parent defines -parent and -movable-parent.
func (fs *FlagSet) Parent(usage string) *ParentFlag {
	f := new(ParentFlag)
	fs.Var(f, "parent", usage)
	fs.Var((*boolValue)(&f.Movable), "movable-parent",
		"TPM 2.0: use -srk-pass even with a parent that may exist outside of this TPM (without fixedTPM): whoever has a copy of it has all keys under it")
	return f
}

// hierarchies are the hierarchies whose primary keys can be parents. TPM 2.0 Library Part
// 2, section 7.4 (TPM_RH).
var hierarchies = map[string]uint32{
	"owner": 0x40000001, "null": 0x40000007, "endorsement": 0x4000000b, "platform": 0x4000000c,
}

// Set parses the name of a hierarchy, or a handle.
func (f *ParentFlag) Set(text string) error {
	if handle, ok := hierarchies[text]; ok {
		f.Handle = handle
		return nil
	}
	n, err := strconv.ParseUint(strings.TrimPrefix(text, "handle:"), 0, 32)
	if err != nil || n>>24 != 0x81 && n>>24 != 0x40 {
		return errors.New("it takes owner, endorsement, platform, null, or the handle of a key that the TPM keeps, as in 0x81000001")
	}
	f.Handle = uint32(n)
	return nil
}

func (f *ParentFlag) String() string {
	if f.Handle == 0 {
		return ""
	}
	return fmt.Sprintf("%#x", f.Handle)
}
