package pixmed_test

import (
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
)

// Who imports the SDK gets these modules and what they need, and nothing else.
func TestImports(t *testing.T) {
	t.Parallel()
	want := []string{
		"github.com/go-json-experiment/json",
		"github.com/google/uuid",
		"github.com/hashicorp/go-retryablehttp",
		"github.com/segmentio/asm",
	}
	var got []string
	tree := os.DirFS(".")
	err := fs.WalkDir(tree, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() {
			if _, err := fs.Stat(tree, path.Join(name, "go.mod")); err == nil && name != "." {
				return fs.SkipDir // a module of its own
			}
			return nil
		}
		if !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") {
			return nil
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		for _, spec := range file.Imports {
			imported, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				return err
			}
			if imported == "testing" || strings.HasPrefix(imported, "testing/") {
				t.Errorf("%s imports %s: programs would have its flags", name, imported)
			}
			host, _, _ := strings.Cut(imported, "/")
			if strings.Contains(host, ".") && !strings.HasPrefix(imported, "github.com/pixmed-go/pixmed") {
				got = append(got, strings.TrimSuffix(strings.TrimSuffix(imported, "/jsontext"), "/base64"))
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(got)
	if diff := gocmp.Diff(want, slices.Compact(got)); diff != "" {
		t.Errorf("imports (-want +got):\n%s", diff)
	}
}
