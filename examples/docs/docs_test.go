package docs

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/pixmed-go/pixmed/examples/internal/markdown"
)

const folder = "../../docs/"

// pages are the pages that this test answers for, and whether they show code.
var pages = map[string]bool{
	"README.md":           false,
	"integration.md":      true,
	"integracao.pt-BR.md": true,
	"med.md":              true,
	"security.md":         false,
	"inbox.md":            true,
	"migrating.md":        true,
	"reliability.md":      false,
}

// Every Go snippet of a page must stand, line by line, in a program or test that
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
	for page, hasCode := range pages {
		found := markdown.Snippets(readPage(t, page), "go")
		if hasCode != (len(found) > 0) {
			t.Errorf("%s has %d Go snippets", page, len(found))
		}
		for _, snippet := range found {
			if !strings.Contains(programs.String(), "\n"+snippet) {
				t.Errorf("%s has a snippet that stands in no program of examples/docs:\n%s", page, snippet)
			}
		}
	}
}

// The Portuguese page has the code blocks of the English one, and its tables have
// the same names and numbers.
func TestTranslationAgrees(t *testing.T) {
	t.Parallel()
	english, portuguese := readPage(t, "integration.md"), readPage(t, "integracao.pt-BR.md")
	blocks := func(text string) (all []string) {
		for _, language := range []string{"go", "sh", "console", "json"} {
			all = append(all, markdown.Snippets(text, language)...)
		}
		return all
	}
	if diff := cmp.Diff(blocks(english), blocks(portuguese)); diff != "" {
		t.Errorf("integracao.pt-BR.md has other code than integration.md (-en +pt):\n%s", diff)
	}
	headings := func(text string) int { return strings.Count(text, "\n## ") }
	if en, pt := headings(english), headings(portuguese); en != pt {
		t.Errorf("integration.md has %d sections and integracao.pt-BR.md %d", en, pt)
	}
	facts := func(text string) (rows [][]string) {
		for line := range strings.Lines(text) {
			if strings.HasPrefix(line, "|") {
				rows = append(rows, regexp.MustCompile("`[^`]+`|[0-9]+").FindAllString(line, -1))
			}
		}
		return rows
	}
	if diff := cmp.Diff(facts(english), facts(portuguese)); diff != "" {
		t.Errorf("tables (-en +pt):\n%s", diff)
	}
}

// A test that a page names as its witness must exist.
func TestNamedTestsExist(t *testing.T) {
	t.Parallel()
	var code strings.Builder
	err := filepath.WalkDir("../..", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		b, err := os.ReadFile(path)
		code.Write(b)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	named := regexp.MustCompile("`((?:Test|Fuzz)[A-Z][A-Za-z0-9]*)`")
	for page := range pages {
		for _, m := range named.FindAllStringSubmatch(readPage(t, page), -1) {
			if !strings.Contains(code.String(), "\nfunc "+m[1]+"(") {
				t.Errorf("%s names %s, which is no test", page, m[1])
			}
		}
	}
}

// Links to files of the repository lead to files, and to headings that exist.
func TestLinksLead(t *testing.T) {
	t.Parallel()
	link := regexp.MustCompile(`\]\(([^)\s]+)\)`)
	for page := range pages {
		for _, m := range link.FindAllStringSubmatch(readPage(t, page), -1) {
			target, anchor, _ := strings.Cut(m[1], "#")
			if strings.Contains(target, "://") {
				continue
			}
			if target == "" {
				target = page
			}
			path := folder + target
			if _, err := os.Stat(path); err != nil {
				t.Errorf("%s: the link %s leads nowhere: %v", page, m[1], err)
			} else if anchor != "" && !headings(markdown.Read(t, path))[anchor] {
				t.Errorf("%s: the link %s leads to no heading", page, m[1])
			}
		}
	}
}

// Prose fits a terminal; tables and code may be wider.
func TestProseFits(t *testing.T) {
	t.Parallel()
	for page := range pages {
		code := false
		for number, line := range strings.Split(readPage(t, page), "\n") {
			if strings.HasPrefix(line, "```") {
				code = !code
			}
			table, link := strings.HasPrefix(line, "|"), strings.Contains(line, "](http") // an address has no place to break at
			if n := utf8.RuneCountInString(line); n > 120 && !code && !table && !link {
				t.Errorf("%s:%d has %d characters", page, number+1, n)
			}
		}
	}
}

// The alerts are about metrics that pixmed serve exports.
func TestAlertsNameMetrics(t *testing.T) {
	t.Parallel()
	exported := markdown.Read(t, "../../cmd/pixmed/metrics.go")
	rules := markdown.Snippets(readPage(t, "inbox.md"), "yaml")
	if len(rules) != 1 {
		t.Fatalf("inbox.md has %d blocks of YAML, want the alerts alone", len(rules))
	}
	metric := regexp.MustCompile(`pixmed_[a-z_]+`)
	names := metric.FindAllString(rules[0], -1)
	if len(names) == 0 {
		t.Fatal("the alerts name no metric")
	}
	for _, name := range names {
		if base := strings.TrimSuffix(name, "_bucket"); !strings.Contains(exported, fmt.Sprintf("%q", base)) {
			t.Errorf("the alerts use %s, which pixmed serve does not export", name)
		}
	}
}

// headings returns the anchors of a page's headings.
func headings(markdown string) map[string]bool {
	anchors := make(map[string]bool)
	for _, m := range regexp.MustCompile(`(?m)^#+ (.*)$`).FindAllStringSubmatch(markdown, -1) {
		anchor := regexp.MustCompile(`[^\p{L}\p{N} _-]`).ReplaceAllString(strings.ToLower(m[1]), "")
		anchors[strings.ReplaceAll(anchor, " ", "-")] = true
	}
	return anchors
}

func readPage(t *testing.T, name string) string {
	t.Helper()
	return markdown.Read(t, folder+name)
}
