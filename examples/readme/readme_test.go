// Package readme holds the programs whose code the READMEs show.
package readme

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pixmed-go/pixmed"
	"github.com/pixmed-go/pixmed/examples/internal/markdown"
	"github.com/pixmed-go/pixmed/pixmedtest"
)

const (
	english    = "../../README.md"
	portuguese = "../../README.pt-BR.md"
)

// Every Go snippet of the README must stand, line by line, in a program or test that
// compiles with everything else.
func TestSnippetsCompile(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("*/*.go")
	if err != nil || len(files) == 0 {
		t.Fatalf("no programs: %v", err)
	}
	var programs strings.Builder
	for _, file := range files {
		programs.WriteString("\n" + markdown.Read(t, file))
	}
	snippets := markdown.Snippets(markdown.Read(t, english), "go")
	if len(snippets) == 0 {
		t.Fatal("README.md has no Go snippet")
	}
	for _, snippet := range snippets {
		if !strings.Contains(programs.String(), "\n"+snippet) {
			t.Errorf("README.md has a snippet that stands in no program of examples/readme:\n%s", snippet)
		}
	}
}

// The payload is the specification's, and what the README says that its program
// prints for it is what it prints.
func TestFirstRun(t *testing.T) {
	t.Parallel()
	page := markdown.Read(t, english)
	if diff := cmp.Diff([]string{pixmedtest.Sample + "\n"}, markdown.Snippets(page, "json")); diff != "" {
		t.Errorf("the payload (-want +got):\n%s", diff)
	}
	sample, err := pixmed.ParseInfraction([]byte(pixmedtest.Sample))
	if err != nil {
		t.Fatal(err)
	}
	n := &pixmed.Notification{Infraction: *sample, Attempt: 1}
	printed := fmt.Sprintf("%v: %s\n", n, "block the value, fetch the receipt")
	if diff := cmp.Diff([]string{printed}, markdown.Snippets(page, "text")); diff != "" {
		t.Errorf("what the program prints (-want +got):\n%s", diff)
	}
}

// .ci/run runs the commands.
func TestCommands(t *testing.T) {
	t.Parallel()
	script := markdown.Read(t, "../../.ci/run")
	commands := markdown.Snippets(markdown.Read(t, english), "sh")
	if len(commands) != 2 {
		t.Fatalf("README.md has %d blocks of commands, want go get and those of a clone", len(commands))
	}
	for command := range strings.Lines(commands[1]) {
		if !strings.Contains(script, "say "+command) {
			t.Errorf(".ci/run does not run %s", command)
		}
	}
}

func TestTranslation(t *testing.T) {
	t.Parallel()
	markdown.CheckTranslation(t, english, portuguese)
}

func TestPages(t *testing.T) {
	t.Parallel()
	for _, name := range []string{english, portuguese} {
		markdown.CheckLinks(t, name)
		markdown.CheckWidth(t, name)
		if n := strings.Count(markdown.Read(t, name), "\n"); n > 150 {
			t.Errorf("%s has %d lines: what is more than a first look belongs into docs", name, n)
		}
	}
}
