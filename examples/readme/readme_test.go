// Package readme holds the programs whose code the READMEs show.
package readme

import (
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pixmed-go/pixmed/examples/internal/markdown"
)

// Every Go snippet of a README must stand, line by line, in a program that
// compiles with everything else.
func TestSnippetsCompile(t *testing.T) {
	t.Parallel()
	var programs []string
	files, err := filepath.Glob("*/*.go")
	if err != nil || len(files) == 0 {
		t.Fatalf("no programs: %v", err)
	}
	for _, file := range files {
		programs = append(programs, markdown.Read(t, file))
	}
	english := markdown.Snippets(markdown.Read(t, "../../README.md"), "go")
	if len(english) == 0 {
		t.Fatal("README.md has no Go snippet")
	}
	for _, snippet := range english {
		found := false
		for _, program := range programs {
			found = found || strings.Contains(program, "\n"+snippet)
		}
		if !found {
			t.Errorf("README.md has a snippet that stands in no program of examples/readme:\n%s", snippet)
		}
	}
	// Comments are translated, code is not.
	comment := regexp.MustCompile(`\s*// .*`)
	uncommented := func(snippets []string) []string {
		for i, s := range snippets {
			snippets[i] = comment.ReplaceAllString(s, "")
		}
		return snippets
	}
	portuguese := markdown.Snippets(markdown.Read(t, "../../README.pt-BR.md"), "go")
	if diff := cmp.Diff(uncommented(english), uncommented(portuguese)); diff != "" {
		t.Errorf("README.pt-BR.md has other snippets than README.md (-en +pt):\n%s", diff)
	}
}

func TestCommandsAgree(t *testing.T) {
	t.Parallel()
	want := []string{"go run ./examples/quickstart\ngo test work\n"}
	for _, name := range []string{"README.md", "README.pt-BR.md"} {
		if diff := cmp.Diff(want, markdown.Snippets(markdown.Read(t, "../../"+name), "sh")); diff != "" {
			t.Errorf("%s: commands (-want +got):\n%s", name, diff)
		}
	}
}

// The tables are translated; what is code or a number in them is not.
func TestTablesAgree(t *testing.T) {
	t.Parallel()
	facts := func(name string) (rows [][]string) {
		for line := range strings.Lines(markdown.Read(t, "../../"+name)) {
			if strings.HasPrefix(line, "|") {
				rows = append(rows, regexp.MustCompile("`[^`]+`|[0-9]+").FindAllString(line, -1))
			}
		}
		return rows
	}
	if diff := cmp.Diff(facts("README.md"), facts("README.pt-BR.md")); diff != "" {
		t.Errorf("tables (-en +pt):\n%s", diff)
	}
}
