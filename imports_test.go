package maclef_test

import (
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// layers are the packages from the lowest to the highest. A package imports only lower
// ones. docs/design.md says what each is for.
var layers = []string{
	"internal/printable", "internal/textenc", "internal/transport/frame", "internal/sysfs", "internal/pubarea", "internal/softkey", "internal/roca", "blob", "internal/policy", "internal/queue",
	"internal/newfile", "internal/contextcache", "internal/keyfile", "internal/certfile", "internal/transport/emulator", "internal/transport", "internal/tpmconn",
	"internal/tpm12", "internal/tpm20", "internal/chip", "internal/pemkey", "internal/chip12", "internal/chip20", "internal/keymgr",
	"tpmkey", "internal/advice", "internal/cli", "ecryptmount/internal/ecryptfs",
	"keygen", "certgen", "tlsdemo", "tpmctl", "ecryptmount",
}

// forbidden are imports of lower packages that are not allowed, either.
var forbidden = map[string][]string{
	"internal/policy": {"internal/tpm20", "internal/transport"},
	"internal/queue":  {"internal/transport"},
	"internal/keymgr": {"internal/chip12", "internal/chip20", "internal/tpm12", "internal/tpm20"},
	"internal/chip12": {"internal/tpm20", "internal/policy", "internal/contextcache"},
	"internal/chip20": {"internal/tpm12", "internal/chip12"},
	"internal/chip":   {"internal/tpm12", "internal/tpm20"},
	"blob":            {"internal/transport", "internal/sysfs"},
}

// maxFiles is how many files a package has at most, without tests.
const maxFiles = 25

// TestImports reads the imports of all packages that users build.
func TestImports(t *testing.T) {
	files := map[string]int{}
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		dir := filepath.ToSlash(filepath.Dir(path))
		switch {
		case d.IsDir() && slices.Contains([]string{".git", "bin", "interop", "bench", "vm", "testdata", "tpmtest"}, d.Name()):
			return filepath.SkipDir
		case d.IsDir(), !strings.HasSuffix(path, ".go"), strings.HasSuffix(path, "_test.go"):
			return nil
		}
		files[dir]++
		f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		for _, spec := range f.Imports {
			name, _ := strconv.Unquote(spec.Path.Value)
			if of, own := strings.CutPrefix(name, "maclef/"); own {
				checkImport(t, path, dir, of)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for dir, n := range files {
		if n > maxFiles {
			t.Errorf("%s has %d files; more than %d are two packages", dir, n, maxFiles)
		}
	}
}

func checkImport(t *testing.T, path, from, to string) {
	t.Helper()
	above, below := slices.Index(layers, from), slices.Index(layers, to)
	switch {
	case above < 0:
		t.Errorf("%s: package %s is not among the layers: see imports_test.go", path, from)
	case below < 0 || below >= above:
		t.Errorf("%s: %s imports %s, which is not below it", path, from, to)
	case slices.Contains(forbidden[from], to):
		t.Errorf("%s: %s must not import %s", path, from, to)
	}
}
