// Package markdown reads the pages whose code and links the tests check.
package markdown

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
)

// Read returns a file's text.
func Read(tb testing.TB, name string) string {
	tb.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		tb.Fatal(err)
	}
	return string(b)
}

// Snippets returns a page's blocks of code in a language.
func Snippets(page, language string) (found []string) {
	for _, m := range regexp.MustCompile("(?ms)^```"+regexp.QuoteMeta(language)+"\n(.*?)^```$").FindAllStringSubmatch(page, -1) {
		found = append(found, m[1])
	}
	return found
}

var (
	comment = regexp.MustCompile(`(?m)\s*(//|#) .*$`)
	label   = regexp.MustCompile(`(?m)(:| as) .*$`)
	fact    = regexp.MustCompile("`[^`]+`|[0-9]+")
)

// CheckTranslation fails the test if two pages in different languages have other
// code, apart from comments, or other diagrams, apart from their labels, or another
// number of sections, or tables that do not have the same names and numbers.
func CheckTranslation(t *testing.T, original, translated string) {
	t.Helper()
	outline := func(name string) (blocks []string, sections int, rows [][]string) {
		page := Read(t, name)
		for _, language := range []string{"go", "sh", "console", "json", "text", "yaml"} {
			for _, block := range Snippets(page, language) {
				blocks = append(blocks, comment.ReplaceAllString(block, ""))
			}
		}
		for _, diagram := range Snippets(page, "mermaid") {
			blocks = append(blocks, label.ReplaceAllString(diagram, ""))
		}
		for line := range strings.Lines(page) {
			if strings.HasPrefix(line, "|") {
				rows = append(rows, fact.FindAllString(line, -1))
			}
		}
		return blocks, strings.Count(page, "\n## "), rows
	}
	blocks, sections, rows := outline(original)
	otherBlocks, otherSections, otherRows := outline(translated)
	if diff := cmp.Diff(blocks, otherBlocks); diff != "" {
		t.Errorf("%s has other code than %s (-original +translation):\n%s", translated, original, diff)
	}
	if sections != otherSections {
		t.Errorf("%s has %d sections and %s has %d", original, sections, translated, otherSections)
	}
	if diff := cmp.Diff(rows, otherRows); diff != "" {
		t.Errorf("%s has other tables than %s (-original +translation):\n%s", translated, original, diff)
	}
}

var link = regexp.MustCompile(`\]\(([^)\s]+)\)`)

// CheckLinks fails the test if a link of the page to a file of the repository leads
// to no file, or to a heading that is not there.
func CheckLinks(t *testing.T, name string) {
	t.Helper()
	for _, m := range link.FindAllStringSubmatch(Read(t, name), -1) {
		target, anchor, _ := strings.Cut(m[1], "#")
		if strings.Contains(target, "://") {
			continue
		}
		path := name
		if target != "" {
			path = filepath.Join(filepath.Dir(name), target)
		}
		if _, err := os.Stat(path); err != nil {
			t.Errorf("%s: the link %s leads nowhere: %v", name, m[1], err)
		} else if anchor != "" && !headings(Read(t, path))[anchor] {
			t.Errorf("%s: the link %s leads to no heading", name, m[1])
		}
	}
}

// headings returns the anchors of a page's headings.
func headings(page string) map[string]bool {
	anchors := make(map[string]bool)
	for _, m := range regexp.MustCompile(`(?m)^#+ (.*)$`).FindAllStringSubmatch(page, -1) {
		anchor := regexp.MustCompile(`[^\p{L}\p{N} _-]`).ReplaceAllString(strings.ToLower(m[1]), "")
		anchors[strings.ReplaceAll(anchor, " ", "-")] = true
	}
	return anchors
}

// CheckWidth fails the test if prose does not fit a terminal. Tables and code may be
// wider.
func CheckWidth(t *testing.T, name string) {
	t.Helper()
	code := false
	for number, line := range strings.Split(Read(t, name), "\n") {
		if strings.HasPrefix(line, "```") {
			code = !code
		}
		table, link := strings.HasPrefix(line, "|"), strings.Contains(line, "](") // an address has no place to break at
		if n := utf8.RuneCountInString(line); n > 120 && !code && !table && !link {
			t.Errorf("%s:%d has %d characters", name, number+1, n)
		}
	}
}
