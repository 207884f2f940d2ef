package advice

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const root = "../.."

// commands are this project's.
var commands = []string{"keygen", "certgen", "tlsdemo", "tpmctl", "ecryptmount"}

// ofCommands are the packages below internal that only commands and tests import.
var ofCommands = []string{"advice", "cli", "tpmtest"}

// otherPrograms are commands of other programs, with flags that ours have, too.
var otherPrograms = regexp.MustCompile(`(ssh-keygen|openssl \w+)( -\w+| [A-Z]+\b| named_curve)+`)

// A Go program that imports a library has neither our commands nor their flags: no string
// and no comment of a library names one.
func TestLibrariesNameNoCommand(t *testing.T) {
	flags := flagNames(t)
	if !slices.Contains(flags, "srk-pass") || !slices.Contains(flags, "tpm") || !slices.Contains(flags, "w") {
		t.Fatalf("flags: %q", flags)
	}
	command := regexp.MustCompile(`(^|[^-a-zA-Z])(` + strings.Join(commands, "|") + `)\b`)
	flag := regexp.MustCompile(`(^|[^-\w])--?(` + strings.Join(flags, "|") + `)($|[^-\w])`)
	read := 0
	for _, pkg := range libraries(t) {
		for _, path := range sources(t, pkg) {
			read++
			for _, text := range textsOf(t, path) {
				rest := otherPrograms.ReplaceAllString(text, "")
				if found := command.FindString(rest) + flag.FindString(rest); found != "" {
					t.Errorf("%s names %q: %s", path, found, text)
				}
			}
		}
	}
	if read < 100 {
		t.Errorf("%d files were read", read)
	}
}

// libraries are the packages that a Go program gets its errors from, or its documentation.
func libraries(t *testing.T) []string {
	t.Helper()
	all := []string{"blob", "tpmkey"}
	err := filepath.WalkDir(filepath.Join(root, "internal"), func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil || !d.IsDir():
			return err
		case d.Name() == "testdata", slices.Contains(ofCommands, d.Name()):
			return fs.SkipDir
		}
		pkg, err := filepath.Rel(root, path)
		all = append(all, pkg)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// sources are the files of a package that are no tests.
func sources(t *testing.T, pkg string) []string {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(root, pkg, "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	return slices.DeleteFunc(paths, func(path string) bool { return strings.HasSuffix(path, "_test.go") })
}

func parse(t *testing.T, path string) *ast.File {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	return file
}

// textsOf returns the strings and comments of a file.
func textsOf(t *testing.T, path string) (texts []string) {
	file := parse(t, path)
	ast.Inspect(file, func(n ast.Node) bool {
		if text, ok := stringOf(n); ok {
			texts = append(texts, text)
		}
		return true
	})
	for _, group := range file.Comments {
		texts = append(texts, strings.Join(strings.Fields(group.Text()), " "))
	}
	return texts
}

func stringOf(n ast.Node) (string, bool) {
	lit, ok := n.(*ast.BasicLit)
	if !ok || lit.Kind != token.STRING {
		return "", false
	}
	text, err := strconv.Unquote(lit.Value)
	return text, err == nil
}

// flagNames are the names of all flags that the commands define, by methods of
// cli.FlagSet.
func flagNames(t *testing.T) (names []string) {
	at := map[string]int{"String": 0, "Bool": 0, "Int": 0, "Choice": 0, "Input": 0, "Secret": 0, "Var": 1}
	for _, pkg := range append([]string{"internal/cli"}, commands...) {
		for _, path := range sources(t, pkg) {
			ast.Inspect(parse(t, path), func(n ast.Node) bool {
				call, ok := n.(*ast.CallExpr)
				if !ok || len(call.Args) < 2 {
					return true
				}
				if method, ok := call.Fun.(*ast.SelectorExpr); ok {
					i, defines := at[method.Sel.Name]
					if text, ok := stringOf(call.Args[i]); defines && ok {
						names = append(names, strings.FieldsFunc(text, func(r rune) bool { return r == '|' })...)
					}
				}
				return true
			})
		}
	}
	return names
}
